-- To whom it was granted what roles may do with objects: to themselves, to roles whose privileges they have, or to everybody.
-- $1 text[]: roles; $2 text[]: schemas of the objects; $3 text[]: their names, in the same order, null for a schema itself. No
-- grantee is everybody. Functions have their arguments' types.
with objects as (
    select
        c.relnamespace as namespace,
        c.relname::text as object_name,
        null::text as arguments,
        coalesce(
            c.relacl,
            pg_catalog.acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)
        ) as acl
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select c.relnamespace, c.relname::text, null, a.attacl
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_class as c on c.oid = a.attrelid
    where a.attacl is not null
    union all
    select
        f.pronamespace,
        f.proname::text,
        pg_catalog.oidvectortypes(f.proargtypes),
        coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))
    from pg_catalog.pg_proc as f
    union all
    select n.oid, null, null, coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))
    from pg_catalog.pg_namespace as n
)

select distinct
    r.rolname::text as role_name,
    n.nspname::text as schema_name,
    o.object_name,
    o.arguments,
    x.privilege_type as may,
    case x.grantee when 0 then null else pg_catalog.pg_get_userbyid(x.grantee)::text end as grantee
from unnest($2::text[], $3::text[]) as wanted (schema_name, object_name)
join pg_catalog.pg_namespace as n on n.nspname = wanted.schema_name
join objects as o on o.namespace = n.oid and o.object_name is not distinct from wanted.object_name
cross join lateral pg_catalog.aclexplode(o.acl) as x
join pg_catalog.pg_roles as r
    on r.rolname = any ($1::text[]) and (x.grantee = 0 or pg_catalog.pg_has_role(r.oid, x.grantee, 'USAGE'))
order by role_name, schema_name, object_name, arguments, may, grantee
