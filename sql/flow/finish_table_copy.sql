-- Commits with the data, or after them. Variables: schema, table; rows and bytes: numbers
update pgdetour.table_copy
set
    state = 'copied',
    row_count = :rows,
    byte_count = :bytes,
    copied_at = pg_catalog.clock_timestamp()
where schema_name = :'schema' and table_name = :'table'
