-- Tables that are to be copied anew. As if their copies had been cut off: what is there is removed first.
-- $1 text[]: schemas; $2 text[]: names
update pgdetour.table_copy as t
set state = 'copying', row_count = null, byte_count = null, copied_at = null, analyzed_at = null
from unnest($1::text[], $2::text[]) as wanted (schema_name, table_name)
where t.schema_name = wanted.schema_name and t.table_name = wanted.table_name
