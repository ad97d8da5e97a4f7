-- Who may do something with relations or with the sequences that they own, or use schemas, beside the owner.
-- $1 text[]: schemas; $2 text[]: names of relations, in the same order; $3 text[]: schemas by themselves. No grantee is everybody.
with relations as (
    select c.oid
    from unnest($1::text[], $2::text[]) as wanted (schema_name, relation_name)
    join pg_catalog.pg_namespace as n on n.nspname = wanted.schema_name
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = wanted.relation_name
)

select distinct
    n.nspname::text as schema_name,
    c.relname::text as relation_name,
    case c.relkind when 'S' then 'sequence' else 'table' end as kind,
    case a.grantee when 0 then null else pg_catalog.pg_get_userbyid(a.grantee)::text end as grantee
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral pg_catalog.aclexplode(c.relacl) as a
where a.grantee <> c.relowner
    and (
        c.oid in (select r.oid from relations as r)
        or c.relkind = 'S' and exists (
            select from pg_catalog.pg_depend as d
            join relations as r on r.oid = d.refobjid
            where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                and d.objid = c.oid
                and d.deptype in ('a', 'i')
        )
    )
union all
select distinct
    n.nspname::text,
    null::text,
    'schema',
    case a.grantee when 0 then null else pg_catalog.pg_get_userbyid(a.grantee)::text end
from pg_catalog.pg_namespace as n
cross join lateral pg_catalog.aclexplode(n.nspacl) as a
where n.nspname = any ($3) and a.grantee <> n.nspowner
order by schema_name, relation_name, grantee
