-- Roles that we have made or marked for this database, and that our role may not change; what it lacks for that. Since 16 it has
-- to be a member of each who may grant it. No parameters.
select
    r.rolname::text as role_name,
    me.rolname::text as own_role,
    r.rolsuper as is_superuser,
    not me.rolcreaterole as lacks_createrole,
    pg_catalog.current_setting('server_version_num')::int >= 160000
    and not pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') as lacks_admin
from pg_catalog.pg_roles as r
join pg_catalog.pg_roles as me on me.rolname = current_user
where not me.rolsuper
    and (
        r.rolsuper
        or not me.rolcreaterole
        or pg_catalog.current_setting('server_version_num')::int >= 160000
        and not pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
    )
    and (
        pg_catalog.shobj_description(r.oid, 'pg_authid') = pg_catalog.format(
            'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
        )
        or exists (
            select
            from pg_catalog.pg_db_role_setting as s
            join pg_catalog.pg_database as d on d.oid = s.setdatabase
            where s.setrole = r.oid and d.datname = pg_catalog.current_database()
                and 'pgdetour.limited=on' = any (s.setconfig)
        )
    )
order by r.rolname
