-- What default privileges have made of relations, routines, types and schemas that are not the system's, an extension's or ours, and what
-- puts that back to what is built in. $1 text[]: schemas to leave as they are, though not what is in them. No grantee is everybody.
with object as (
    select
        'pg_catalog.pg_class'::pg_catalog.regclass as class,
        c.oid,
        c.relnamespace as namespace,
        case c.relkind when 'S' then 'sequence' else 'table' end as kind,
        c.relacl as acl,
        pg_catalog.acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner) as built_in
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select
        'pg_catalog.pg_proc'::pg_catalog.regclass,
        f.oid,
        f.pronamespace,
        'routine',
        f.proacl,
        pg_catalog.acldefault('f', f.proowner)
    from pg_catalog.pg_proc as f
    union all
    select
        'pg_catalog.pg_type'::pg_catalog.regclass,
        t.oid,
        t.typnamespace,
        'type',
        t.typacl,
        pg_catalog.acldefault('T', t.typowner)
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'r') or c.relkind = 'c'
    union all
    select
        'pg_catalog.pg_namespace'::pg_catalog.regclass,
        n.oid,
        n.oid,
        'schema',
        n.nspacl,
        pg_catalog.acldefault('n', n.nspowner)
    from pg_catalog.pg_namespace as n
    where n.nspname <> all ($1::text[])
),

made as (
    select o.class, o.oid, o.kind, o.acl, o.built_in
    from object as o
    join pg_catalog.pg_namespace as n on n.oid = o.namespace
    where o.acl is not null
        and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
        -- Without any it takes no time.
        and exists (select from pg_catalog.pg_default_acl)
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = o.class and d.objid = o.oid and d.deptype = 'e'
        )
),

change as (
    select m.class, m.oid, m.kind, 'revoke' as verb, x.grantee, x.privilege_type
    from made as m
    cross join lateral pg_catalog.aclexplode(m.acl) as x
    where not exists (
        select from pg_catalog.aclexplode(m.built_in) as b
        where b.grantee = x.grantee and b.privilege_type = x.privilege_type
    )
    union all
    select m.class, m.oid, m.kind, 'grant', b.grantee, b.privilege_type
    from made as m
    cross join lateral pg_catalog.aclexplode(m.built_in) as b
    where not exists (
        select from pg_catalog.aclexplode(m.acl) as x
        where x.grantee = b.grantee and x.privilege_type = b.privilege_type
    )
)

select
    c.verb,
    c.kind,
    i.identity,
    case c.grantee when 0 then null else pg_catalog.pg_get_userbyid(c.grantee)::text end as grantee,
    pg_catalog.string_agg(distinct c.privilege_type, ', ' order by c.privilege_type) as privileges
from change as c
cross join lateral pg_catalog.pg_identify_object(c.class, c.oid, 0) as i
group by c.verb, c.kind, i.identity, c.grantee
order by i.identity, c.kind, c.verb desc, grantee
