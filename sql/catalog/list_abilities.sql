-- What this server has that a dump may refer to, and whom our role may act for. One row.
-- $1 text: the privilege on a role that allows giving objects to it: 'MEMBER', since 16 'SET'
select
    me.rolsuper as superuser,
    (select array_agg(r.rolname::text) from pg_catalog.pg_roles as r) as roles,
    (
        select coalesce(array_agg(r.rolname::text), '{}')
        from pg_catalog.pg_roles as r
        where pg_catalog.pg_has_role(me.oid, r.oid, $1)
    ) as own_as,
    (select coalesce(array_agg(n.nspname::text), '{}') from pg_catalog.pg_namespace as n) as schemas,
    (
        select coalesce(array_agg(n.nspname::text), '{}')
        from pg_catalog.pg_namespace as n
        where n.nspname not in ('public', 'information_schema', 'pgdetour') and n.nspname !~ '^pg_'
            and not pg_catalog.pg_has_role(me.oid, n.nspowner, 'USAGE')
            and not exists (
                select from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid and d.deptype = 'e'
            )
    ) as foreign_schemas,
    (select array_agg(t.spcname::text) from pg_catalog.pg_tablespace as t) as tablespaces,
    (select array_agg(pg_catalog.lower(s.name)) from pg_catalog.pg_settings as s) as parameters
from pg_catalog.pg_roles as me
where me.rolname = current_user
