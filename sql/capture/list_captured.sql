-- Tables with a trigger of ours that is not a partition's copy of its parent's, and whether these fire whatever a session's role is.
-- No parameters.
select distinct
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    array_agg(g.tgname::text order by g.tgname) as triggers,
    bool_and(g.tgenabled = 'A') as always
from pg_catalog.pg_trigger as g
join pg_catalog.pg_class as c on c.oid = g.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where g.tgname like '!pgdetour\_capture\_%' and g.tgparentid = 0
group by 1, 2
