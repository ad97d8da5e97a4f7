-- Partitioned tables and all their partitions, each with the topmost table.
-- $1: oids of the topmost tables; of one that is not partitioned nothing comes.
select t.relid::pg_catalog.oid as oid, r.oid as root, n.nspname || '.' || c.relname as name
from unnest($1::pg_catalog.oid[]) as r (oid)
cross join lateral pg_catalog.pg_partition_tree(r.oid::pg_catalog.regclass) as t
join pg_catalog.pg_class as c on c.oid = t.relid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
order by r.oid, name
