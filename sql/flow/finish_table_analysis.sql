-- $1 text: schema; $2 text: table
update pgdetour.table_copy
set analyzed_at = pg_catalog.clock_timestamp()
where schema_name = $1 and table_name = $2
