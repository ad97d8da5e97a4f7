-- Settings of this database, for all roles or for one in it, as ALTER DATABASE and ALTER ROLE ... IN DATABASE made them.
-- No parameters.
select
    case s.setrole when 0 then null else pg_catalog.pg_get_userbyid(s.setrole)::text end as role_name,
    pg_catalog.split_part(c.setting, '=', 1) as name,
    pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1) as value
from pg_catalog.pg_db_role_setting as s
join pg_catalog.pg_database as d on d.oid = s.setdatabase and d.datname = pg_catalog.current_database()
cross join lateral unnest(s.setconfig) as c (setting)
order by s.setrole, name
