-- What tells this database from all others, also where it is reached by another name. No parameters.
select s.system_identifier || '/' || d.oid as identity
from pg_catalog.pg_control_system() as s
cross join pg_catalog.pg_database as d
where d.datname = pg_catalog.current_database()
