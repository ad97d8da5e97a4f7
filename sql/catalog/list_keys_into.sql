-- Foreign keys that refer to some tables from others, those that partitions inherit left out.
-- $1 oid[]: the tables that are referred to
select
    c.conrelid as table_oid,
    c.conname::text as constraint_name,
    t.relkind = 'p' as partitioned,
    pg_catalog.pg_get_constraintdef(c.oid) as definition
from pg_catalog.pg_constraint as c
join pg_catalog.pg_class as t on t.oid = c.conrelid
where c.contype = 'f'
    and c.conparentid = 0
    and c.confrelid = any($1)
    and c.conrelid <> all($1)
order by c.oid
