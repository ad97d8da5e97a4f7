-- Owner and privileges of every schema that is not the system's or ours, all default privileges, and privileges on the
-- system's objects that are not as they were from the beginning: what the statements of a dump change without making an
-- object. No parameters. One row each; built_in is what default privileges are without a row, and those of the system's
-- objects from the beginning.
with built_in as (
    select
        'pg_catalog.pg_class'::pg_catalog.regclass as class, c.oid, 'table' as kind, c.relowner as owner, c.relacl as acl,
        pg_catalog.acldefault('r', c.relowner) as default_acl
    from pg_catalog.pg_class as c
    union all
    select
        'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 'routine', p.proowner, p.proacl,
        pg_catalog.acldefault('f', p.proowner)
    from pg_catalog.pg_proc as p
    union all
    select
        'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, 'type', t.typowner, t.typacl,
        pg_catalog.acldefault('T', t.typowner)
    from pg_catalog.pg_type as t
    union all
    select
        'pg_catalog.pg_language'::pg_catalog.regclass, l.oid, 'language', l.lanowner, l.lanacl,
        pg_catalog.acldefault('l', l.lanowner)
    from pg_catalog.pg_language as l
),

standing as (
    select
        n.nspname::text as schema_name,
        pg_catalog.pg_get_userbyid(n.nspowner)::text as owner,
        null::text as object_kind,
        null::text as built_in_object,
        coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)) as privileges,
        null::pg_catalog.aclitem[] as built_in
    from pg_catalog.pg_namespace as n
    where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
    union all
    select
        n.nspname::text,
        pg_catalog.pg_get_userbyid(d.defaclrole)::text,
        case d.defaclobjtype
            when 'r' then 'tables'
            when 'S' then 'sequences'
            when 'f' then 'functions'
            when 'T' then 'types'
            when 'n' then 'schemas'
            else 'large objects'
        end,
        null,
        d.defaclacl,
        case
            when d.defaclnamespace <> 0 then null
            when d.defaclobjtype = 'S' then pg_catalog.acldefault('s', d.defaclrole)
            else pg_catalog.acldefault(d.defaclobjtype, d.defaclrole)
        end
    from pg_catalog.pg_default_acl as d
    left join pg_catalog.pg_namespace as n on n.oid = d.defaclnamespace
    union all
    select
        null,
        pg_catalog.pg_get_userbyid(b.owner)::text,
        null,
        pg_catalog.format('%s %s', b.kind, i.identity),
        b.acl,
        first.acl
    from built_in as b
    left join pg_catalog.pg_init_privs as p on p.classoid = b.class and p.objoid = b.oid and p.objsubid = 0
    cross join lateral (select coalesce(p.initprivs, b.default_acl) as acl) as first
    cross join lateral pg_catalog.pg_identify_object(b.class, b.oid, 0) as i
    where b.oid < 16384 and b.acl is not null and i.schema is distinct from 'information_schema'
        and not (b.acl @> first.acl and b.acl <@ first.acl)
)

select
    s.schema_name,
    s.owner,
    s.object_kind,
    s.built_in_object,
    (
        select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'grantee', case x.grantee when 0 then null else pg_catalog.pg_get_userbyid(x.grantee)::text end,
            'privilege', x.privilege_type,
            'grantable', x.is_grantable
        )), '[]')
        from pg_catalog.aclexplode(s.privileges) as x
    ) as privileges,
    (
        select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'grantee', case x.grantee when 0 then null else pg_catalog.pg_get_userbyid(x.grantee)::text end,
            'privilege', x.privilege_type,
            'grantable', x.is_grantable
        )), '[]')
        from pg_catalog.aclexplode(s.built_in) as x
    ) as built_in
from standing as s
order by s.schema_name, s.owner, s.object_kind, s.built_in_object
