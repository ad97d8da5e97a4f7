-- Materialized views that hold data, those first that others read. No parameters.
with recursive reads as (
    select distinct r.ev_class as reader, d.refobjid as read
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on r.oid = d.objid and r.rulename = '_RETURN'
    where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.refobjid <> r.ev_class
),

deep as (
    select c.oid, 0 as depth
    from pg_catalog.pg_class as c
    where c.relkind = 'm'
    union
    select r.reader, v.depth + 1
    from deep as v
    join reads as r on r.read = v.oid
    where v.depth < 100
)

select n.nspname::text as schema_name, c.relname::text as view_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join deep as v on v.oid = c.oid
where c.relkind = 'm' and c.relispopulated
group by n.nspname, c.relname
order by max(v.depth), n.nspname, c.relname
