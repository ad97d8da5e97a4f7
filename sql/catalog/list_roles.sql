-- Roles by name, those that exist.
-- $1 text[]: names
select
    r.rolname::text as name,
    r.rolsuper as superuser,
    r.rolcanlogin as can_login,
    r.rolreplication as replication,
    r.rolbypassrls as bypass_rls,
    r.rolconnlimit as connection_limit,
    coalesce(r.rolvaliduntil <= pg_catalog.now(), false) as expired,
    pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT') as may_connect,
    coalesce(
        (
            select array_agg(g.rolname::text order by g.rolname)
            from pg_catalog.pg_roles as g
            where g.oid <> r.oid and pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
        ),
        '{}'
    ) as member_of,
    coalesce(r.rolconfig, '{}') as settings,
    -- Since 16 whoever may alter roles may alter those alone whose administration he was given.
    me.rolsuper
    or r.oid = me.oid
    or (
        me.rolcreaterole
        and not r.rolsuper
        and (
            pg_catalog.current_setting('server_version_num')::int4 < 160000
            or pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
        )
    ) as may_set
from pg_catalog.pg_roles as r
join pg_catalog.pg_roles as me on me.rolname = current_user
where r.rolname = any($1)
order by r.rolname
