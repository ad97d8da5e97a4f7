-- Which of these roles have a password; only who may read pg_authid may ask. $1 text[]: roles
select a.rolname::text as name
from pg_catalog.pg_authid as a
where a.rolname = any ($1) and a.rolpassword is not null
order by a.rolname
