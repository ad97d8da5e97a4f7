-- Under which name a table is there by now. $1 oid
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = $1
