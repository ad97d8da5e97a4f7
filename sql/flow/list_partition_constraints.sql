-- What rows have to fulfil to be kept in one of a partitioned table's partitions, as SQL over its columns; nothing when any
-- row can be. $1 text: schema; $2 text: table
select pg_catalog.pg_get_partition_constraintdef(l.relid) as condition
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral pg_catalog.pg_partition_tree(c.oid) as l
where n.nspname = $1 and c.relname = $2 and c.relkind = 'p' and l.isleaf and l.relid <> c.oid
