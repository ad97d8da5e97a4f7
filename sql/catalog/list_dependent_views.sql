-- Views and materialized views that read relations, or read views that do, to any depth.
-- $1 oid[]: the relations
with recursive dependent as (
    select r.ev_class as oid
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on r.oid = d.objid
    where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.refobjid = any($1)
        and r.rulename = '_RETURN'
    union
    select r.ev_class
    from dependent as v
    join pg_catalog.pg_depend as d
        on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = v.oid
    join pg_catalog.pg_rewrite as r on r.oid = d.objid and r.rulename = '_RETURN'
    where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
)

select distinct n.nspname::text as schema_name, c.relname::text as view_name
from dependent as v
join pg_catalog.pg_class as c on c.oid = v.oid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid <> all($1)
order by schema_name, view_name
