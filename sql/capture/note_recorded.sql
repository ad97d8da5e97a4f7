-- Which tables are recorded from now on.
-- $1 oid[]: they; $2 oid[]: the topmost table that each is a partition of, or itself; $3 text[]: schemas; $4 text[]: names
with others as (
    delete from pgdetour.recorded where relation <> all ($1::pg_catalog.oid[])
)
insert into pgdetour.recorded (relation, root, schema_name, table_name)
select t.relation, t.root, t.schema_name, t.table_name
from unnest($1::pg_catalog.oid[], $2::pg_catalog.oid[], $3::text[], $4::text[]) as t (relation, root, schema_name, table_name)
on conflict (relation) do update
set root = excluded.root, schema_name = excluded.schema_name, table_name = excluded.table_name
