-- What roles may do with the users' tables, views, sequences and schemas, whoever has granted it to whom.
-- $1 text[]: roles. One row each for what a role may do something with.
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
    select r.role_name, s.schema_name, null::text as object_name, 'USAGE' as may
    from roles as r
    cross join schemas as s
    where pg_catalog.has_schema_privilege(r.oid, s.oid, 'USAGE')
    union all
    select r.role_name, s.schema_name, c.relname::text, p.may
    from roles as r
    cross join schemas as s
    join pg_catalog.pg_class as c on c.relnamespace = s.oid
    cross join lateral unnest(
        case c.relkind when 'S' then array['USAGE'] else array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] end
    ) as p (may)
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
        and not c.relispartition
        and case c.relkind
            when 'S' then pg_catalog.has_sequence_privilege(r.oid, c.oid, p.may)
            else pg_catalog.has_table_privilege(r.oid, c.oid, p.may)
        end
)

select role_name, schema_name, object_name, pg_catalog.array_agg(may order by may) as may
from rights
group by role_name, schema_name, object_name
order by role_name, schema_name, object_name
