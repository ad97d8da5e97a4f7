-- Owner and privileges of every schema that is not the system's or ours, and all default privileges: what the statements of
-- a dump change without making an object. No parameters. One row each; built_in is what default privileges are
-- without a row.
with standing as (
    select
        n.nspname::text as schema_name,
        pg_catalog.pg_get_userbyid(n.nspowner)::text as owner,
        null::text as object_kind,
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
        d.defaclacl,
        case
            when d.defaclnamespace <> 0 then null
            when d.defaclobjtype = 'S' then pg_catalog.acldefault('s', d.defaclrole)
            else pg_catalog.acldefault(d.defaclobjtype, d.defaclrole)
        end
    from pg_catalog.pg_default_acl as d
    left join pg_catalog.pg_namespace as n on n.oid = d.defaclnamespace
)

select
    s.schema_name,
    s.owner,
    s.object_kind,
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
order by s.schema_name, s.owner, s.object_kind
