-- Partitions of tables that are foreign tables. $1 oid[]: the tables that are partitioned
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    pn.nspname::text as parent_schema,
    p.relname::text as parent_name
from pg_catalog.pg_inherits as i
join pg_catalog.pg_class as c on c.oid = i.inhrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_class as p on p.oid = i.inhparent
join pg_catalog.pg_namespace as pn on pn.oid = p.relnamespace
where i.inhparent = any($1) and c.relkind = 'f'
order by schema_name, table_name
