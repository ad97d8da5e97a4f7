-- Captured tables that are there and lack a trigger of ours, or have one that does not always fire: it was disabled, and enabling it
-- again leaves out sessions that act as a replica. No parameters.
select n.nspname::text as schema_name, c.relname::text as table_name
from (
    select distinct on (l.relation) l.*
    from pgdetour.description as l
    order by l.relation, l.ordinal desc
) as d
join pg_catalog.pg_class as c on c.oid = d.relation and c.relispartition = d.partition
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
    select
        count(*) filter (
            where g.tgname in ('!pgdetour_capture_insert', '!pgdetour_capture_update', '!pgdetour_capture_delete')
        ) as row_triggers,
        bool_or(g.tgenabled <> 'A') as switched
    from pg_catalog.pg_trigger as g
    where g.tgrelid = c.oid and g.tgname like '!pgdetour\_capture\_%'
) as t
-- Of markers only the insert matters.
where t.switched or t.row_triggers < case n.nspname when 'pgdetour' then 1 else 3 end
