-- The role that restrict has made for this database, whatever it is called. No parameters.
select r.rolname::text as role_name
from pg_catalog.pg_roles as r
where pg_catalog.shobj_description(r.oid, 'pg_authid') = pg_catalog.format(
    'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
)
order by r.rolname
