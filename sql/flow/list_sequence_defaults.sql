-- Columns of a table whose default takes a number from a sequence. $1 text: schema; $2 text: table
select a.attname::text as column_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_attrdef as d on d.adrelid = c.oid
join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = d.adnum
where n.nspname = $1 and c.relname = $2 and a.attgenerated = ''
    and pg_catalog.pg_get_expr(d.adbin, d.adrelid) like '%nextval(%'
