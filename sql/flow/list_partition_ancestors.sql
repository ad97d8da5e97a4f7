-- Partitions with the tables above them. No parameters. One row for each pair.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    an.nspname::text as ancestor_schema,
    a.relname::text as ancestor_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral pg_catalog.pg_partition_ancestors(c.oid) as above (relid)
join pg_catalog.pg_class as a on a.oid = above.relid
join pg_catalog.pg_namespace as an on an.oid = a.relnamespace
where c.relispartition and c.relkind in ('r', 'p', 'f') and a.oid <> c.oid
