-- Those of the names that are roles.
-- $1 text[]: names.
select r.rolname::text as role_name
from pg_catalog.pg_roles as r
where r.rolname = any ($1::text[])
