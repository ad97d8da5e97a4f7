-- Roles that are told that they are limited in this database. No parameters.
select r.rolname::text as role_name, pg_catalog.quote_ident(d.datname) as database_quoted
from pg_catalog.pg_db_role_setting as s
join pg_catalog.pg_roles as r on r.oid = s.setrole
join pg_catalog.pg_database as d on d.oid = s.setdatabase
where d.datname = pg_catalog.current_database() and 'pgdetour.limited=on' = any (s.setconfig)
order by r.rolname
