-- Which of these schemas hold nothing of their own: at most what extensions have made there. $1 text[]: names
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
where n.nspname = any ($1)
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = n.oid
            and d.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass
            -- Before 15 no publication names schemas; a dump has none of it.
            and d.classid is distinct from pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')::oid
            and not exists (
                select from pg_catalog.pg_depend as e
                where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e'
            )
    )
order by n.nspname
