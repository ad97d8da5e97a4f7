-- Which of these schemas are there and are neither our role's nor of a role that it is a member of; no dump has those that came
-- with an extension. $1 text[]: names
select
    n.nspname::text as name,
    pg_catalog.pg_get_userbyid(n.nspowner)::text as owner,
    pg_catalog.obj_description(n.oid, 'pg_namespace') as comment,
    array(
        select x::text
        from pg_catalog.unnest(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) as x
        order by 1
    ) as privileges
from pg_catalog.pg_namespace as n
where n.nspname = any ($1) and not pg_catalog.pg_has_role(n.nspowner, 'usage')
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid and d.deptype = 'e'
    )
order by n.nspname
