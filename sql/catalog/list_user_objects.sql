-- Relations, routines and types that are not the system's, an extension's or ours: what makes a database not empty.
-- No parameters. One row an object, with its kind as messages name it.
with owned as (
    select n.oid, n.nspname::text as schema_name
    from pg_catalog.pg_namespace as n
    where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
),

object as (
    select
        'pg_catalog.pg_class'::pg_catalog.regclass as classid,
        c.oid,
        c.relnamespace as namespace,
        case c.relkind
            when 'v' then 'view'
            when 'm' then 'materialized view'
            when 'S' then 'sequence'
            when 'f' then 'foreign table'
            else 'table'
        end as kind,
        c.relname::text as name
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't'
    union all
    select
        'pg_catalog.pg_proc'::pg_catalog.regclass,
        p.oid,
        p.pronamespace,
        case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end,
        p.proname::text
    from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typnamespace, 'type', t.typname::text
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'r') or c.relkind = 'c'
)

select o.kind, n.schema_name, o.name
from object as o
join owned as n on n.oid = o.namespace
where not exists (
    select from pg_catalog.pg_depend as d
    where d.classid = o.classid and d.objid = o.oid and d.deptype = 'e'
)
order by o.kind, n.schema_name, o.name
