-- Tables that our role does not own, neither itself nor by membership.
-- $1 oid[]: tables
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = any($1) and not pg_catalog.pg_has_role(c.relowner, 'USAGE')
order by n.nspname, c.relname
