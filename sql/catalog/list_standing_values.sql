-- What settings come back to when they are reset, and what is built in; whether our own role or database sets them, which then is the
-- former; and whether our role may read the configuration files. $1 text[]: names.
select
    s.name,
    coalesce(s.reset_val, '') as value,
    coalesce(s.boot_val, '') as built_in,
    exists (
        select from pg_catalog.pg_db_role_setting as g
        cross join lateral unnest(g.setconfig) as c (setting)
        where g.setrole in (0, (select r.oid from pg_catalog.pg_roles as r where r.rolname = session_user))
            and g.setdatabase in (
                0, (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
            )
            and pg_catalog.split_part(c.setting, '=', 1) = s.name
    ) as is_own,
    pg_catalog.has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'execute') as may_read_files
from pg_catalog.pg_settings as s
where s.name = any ($1)
