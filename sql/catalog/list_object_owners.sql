-- Who owns what a dump of this database makes anew: not the system's, an extension's or ours. No parameters.
-- One row an owner, with the schemas that hold his objects.
with owned as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::oid as classid, c.oid, c.relowner as owner, c.relnamespace as namespace
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't'
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid, p.proowner, p.pronamespace
    from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass::oid, t.oid, t.typowner, t.typnamespace
    from pg_catalog.pg_type as t
    where t.typtype in ('e', 'd', 'r')
    union all
    select 'pg_catalog.pg_namespace'::pg_catalog.regclass::oid, n.oid, n.nspowner, n.oid
    from pg_catalog.pg_namespace as n
    where n.nspname <> 'public'
)

select
    r.rolname::text as owner,
    r.rolsuper as superuser,
    pg_catalog.array_agg(distinct n.nspname::text order by n.nspname::text) as schemas
from owned as o
join pg_catalog.pg_namespace as n on n.oid = o.namespace
join pg_catalog.pg_roles as r on r.oid = o.owner
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = o.classid and d.objid = o.oid and d.deptype = 'e'
    )
group by r.rolname, r.rolsuper
order by r.rolname
