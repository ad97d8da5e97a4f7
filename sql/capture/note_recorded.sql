-- Which tables are recorded from now on, each with the topmost table that it is a partition of, or itself. $1 oid[]: they
with others as (
    delete from pgdetour.recorded where relation <> all ($1::pg_catalog.oid[])
)
insert into pgdetour.recorded (relation, root, schema_name, table_name)
select c.oid, coalesce(pg_catalog.pg_partition_root(c.oid), c.oid), n.nspname, c.relname
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = any ($1::pg_catalog.oid[])
on conflict (relation) do update
set root = excluded.root, schema_name = excluded.schema_name, table_name = excluded.table_name, passed_over = false
