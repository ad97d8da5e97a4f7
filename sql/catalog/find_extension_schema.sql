-- $1 text: extension. The schema of its functions, when it is installed here
select n.nspname::text as schema_name
from pg_catalog.pg_extension as e
join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = $1
