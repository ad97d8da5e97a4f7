-- Those of the general roles that may connect to this database.
-- $1 text[]: general roles.
select r.rolname::text as role_name
from pg_catalog.pg_roles as r
where r.rolname = any ($1::text[])
    and pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
order by r.rolname
