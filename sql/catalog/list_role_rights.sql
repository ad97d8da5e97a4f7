-- What roles may do with the users' tables, views, sequences, functions and schemas, whoever has granted it to whom.
-- $1 text[]: roles. One row each for a role and what is there, also where it may do nothing with it. Functions have their
-- arguments' types; what triggers run is called by nobody.
with roles as (
    select r.oid, r.rolname::text as role_name
    from pg_catalog.pg_roles as r
    where r.rolname = any ($1::text[])
),

schemas as (
    select n.oid, n.nspname::text as schema_name
    from pg_catalog.pg_namespace as n
    where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour') and n.nspname !~ '^pg_(toast|temp)'
),

rights as (
    select
        r.role_name,
        s.schema_name,
        null::text as object_name,
        null::text as arguments,
        'USAGE' as may,
        pg_catalog.has_schema_privilege(r.oid, s.oid, 'USAGE') as allowed
    from roles as r
    cross join schemas as s
    union all
    select
        r.role_name,
        s.schema_name,
        c.relname::text,
        null,
        p.may,
        case c.relkind
            when 'S' then pg_catalog.has_sequence_privilege(r.oid, c.oid, p.may)
            else pg_catalog.has_table_privilege(r.oid, c.oid, p.may)
                -- Granted on single columns.
                or p.may <> 'DELETE' and pg_catalog.has_any_column_privilege(r.oid, c.oid, p.may)
        end
    from roles as r
    cross join schemas as s
    join pg_catalog.pg_class as c on c.relnamespace = s.oid
    cross join lateral unnest(
        case c.relkind when 'S' then array['USAGE'] else array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] end
    ) as p (may)
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not c.relispartition
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e'
        )
    union all
    select
        r.role_name,
        s.schema_name,
        f.proname::text,
        pg_catalog.oidvectortypes(f.proargtypes),
        'EXECUTE',
        pg_catalog.has_function_privilege(r.oid, f.oid, 'EXECUTE')
    from roles as r
    cross join schemas as s
    join pg_catalog.pg_proc as f on f.pronamespace = s.oid
    where f.prorettype not in ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = f.oid and d.deptype in ('e', 'i')
        )
)

select
    role_name,
    schema_name,
    object_name,
    arguments,
    coalesce(pg_catalog.array_agg(may order by may) filter (where allowed), '{}') as may
from rights
group by role_name, schema_name, object_name, arguments
order by role_name, schema_name, object_name, arguments
