-- What tables that are to be copied are by now, and which ones here take their rows.
-- $1 text[]: schemas; $2 text[]: names; $3 jsonb[]: what they are on the publisher, and under "image" here
update pgdetour.table_copy as t
set
    origin = wanted.origin,
    image = pg_catalog.to_regclass(pg_catalog.format('%I.%I', wanted.schema_name, wanted.table_name))::pg_catalog.oid
from unnest($1::text[], $2::text[], $3::jsonb[]) as wanted (schema_name, table_name, origin)
where t.schema_name = wanted.schema_name and t.table_name = wanted.table_name
