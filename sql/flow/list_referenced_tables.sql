-- Tables to which foreign keys of others refer, which TRUNCATE therefore refuses. No parameters.
select distinct n.nspname::text as schema_name, c.relname::text as table_name
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.confrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.contype = 'f' and k.conrelid <> k.confrelid
