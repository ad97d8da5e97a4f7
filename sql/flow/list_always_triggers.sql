-- Triggers of the users' that fire in sessions that act as a replica too. Those that partitions have of their root are named once.
-- No parameters. One row a trigger; the root is the topmost table of a partition, or of the table that has some.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    rn.nspname::text as root_schema,
    r.relname::text as root_table,
    t.tgname::text as trigger_name
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_class as r on r.oid = pg_catalog.pg_partition_root(c.oid)
left join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
left join pg_catalog.pg_trigger as p on p.oid = t.tgparentid
where t.tgenabled in ('A', 'R')
    and not t.tgisinternal
    and p.tgenabled is distinct from t.tgenabled
    and n.nspname <> 'pgdetour'
    and t.tgname !~ '^!?pgdetour'
order by schema_name, table_name, trigger_name
