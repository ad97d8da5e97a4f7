-- Indexes of tables. $1 oid[]: the tables
select
    n.nspname::text as schema_name,
    x.relname::text as index_name
from pg_catalog.pg_index as i
join pg_catalog.pg_class as x on x.oid = i.indexrelid
join pg_catalog.pg_namespace as n on n.oid = x.relnamespace
where i.indrelid = any($1)
order by schema_name, index_name
