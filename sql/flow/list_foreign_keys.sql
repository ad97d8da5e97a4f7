-- Which table of the database refers to which by a foreign key. No parameters.
select
    child_schema.nspname::text as child_schema,
    child.relname::text as child_name,
    parent_schema.nspname::text as parent_schema,
    parent.relname::text as parent_name
from pg_catalog.pg_constraint as c
join pg_catalog.pg_class as child on child.oid = c.conrelid
join pg_catalog.pg_namespace as child_schema on child_schema.oid = child.relnamespace
join pg_catalog.pg_class as parent on parent.oid = c.confrelid
join pg_catalog.pg_namespace as parent_schema on parent_schema.oid = parent.relnamespace
where c.contype = 'f'
