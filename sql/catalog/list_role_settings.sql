-- What roles find set in this database by ALTER ROLE and ALTER DATABASE. $1 text[]: roles. For each role and name, what is in force
-- comes first.
select
    r.rolname::text as role_name,
    pg_catalog.split_part(c.setting, '=', 1) as name,
    pg_catalog.substr(c.setting, pg_catalog.strpos(c.setting, '=') + 1) as value,
    s.setrole <> 0 as of_role,
    s.setdatabase <> 0 as in_database
from pg_catalog.pg_roles as r
join pg_catalog.pg_database as d on d.datname = pg_catalog.current_database()
join pg_catalog.pg_db_role_setting as s on s.setrole in (0, r.oid) and s.setdatabase in (0, d.oid)
cross join lateral unnest(s.setconfig) as c (setting)
where r.rolname = any ($1)
order by role_name, name, s.setrole <> 0 and s.setdatabase <> 0 desc, s.setrole <> 0 desc, s.setdatabase <> 0 desc
