-- Columns of an index, in its order. $1 text: schema; $2 text: the index, which has its constraint's name
select a.attname::text as column_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_index as i on i.indexrelid = c.oid
cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
where n.nspname = $1 and c.relname = $2 and k.position <= i.indnkeyatts
order by k.position
