-- Everything in this database that bears one of our names. No parameters.
select 'replication slot' as kind, s.slot_name::text as name
from pg_catalog.pg_replication_slots as s
where s.slot_name in ('pgdetour_mirror', 'pgdetour_stage', 'pgdetour_capture', 'pgdetour_backup')
    and s.database = pg_catalog.current_database()
union all
select 'publication', p.pubname::text
from pg_catalog.pg_publication as p
where p.pubname in ('pgdetour_mirror', 'pgdetour_capture', 'pgdetour_backup')
union all
select 'subscription', s.subname::text
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
where s.subname in ('pgdetour_mirror', 'pgdetour_backup') and d.datname = pg_catalog.current_database()
union all
select 'schema', n.nspname::text
from pg_catalog.pg_namespace as n
where n.nspname = 'pgdetour'
union all
select 'event trigger', e.evtname::text
from pg_catalog.pg_event_trigger as e
where e.evtname like 'pgdetour\_%'
union all
select 'trigger', t.tgname || ' on ' || n.nspname || '.' || c.relname
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where t.tgname ~ '^[!~]?pgdetour_' and not t.tgisinternal
order by 1, 2
