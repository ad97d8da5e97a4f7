-- What a parameter is in this database for sessions of a role that nobody tells otherwise; no row where the server does not know it.
-- $1 text: the parameter, in lower case; $2 text: the role
select
    coalesce(
        (
            select pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1)
            from pg_catalog.pg_db_role_setting as s
            cross join lateral unnest(s.setconfig) as c (setting)
            where s.setdatabase in (
                0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
            )
                and s.setrole in (0, coalesce((select r.oid from pg_catalog.pg_roles as r where r.rolname = $2), 0))
                and pg_catalog.split_part(c.setting, '=', 1) = $1
            order by s.setdatabase <> 0 and s.setrole <> 0 desc, s.setrole <> 0 desc, s.setdatabase <> 0 desc
            limit 1
        ),
        -- Where our own role is told something, that is what a session of ours comes back to.
        case when exists (
            select from pg_catalog.pg_db_role_setting as s
            cross join lateral unnest(s.setconfig) as c (setting)
            where s.setrole = (select r.oid from pg_catalog.pg_roles as r where r.rolname = session_user)
                and s.setdatabase in (
                    0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
                )
                and pg_catalog.split_part(c.setting, '=', 1) = $1
        ) then p.boot_val else p.reset_val end
    ) as value
from pg_catalog.pg_settings as p
where p.name = $1
