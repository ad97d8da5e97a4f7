-- Variables: schema, table; snapshot: the publisher's pg_current_snapshot() under which the table is read
update pgdetour.table_copy
set
    state = 'copying',
    snapshot = :'snapshot',
    row_count = null,
    byte_count = null,
    copied_at = null,
    analyzed_at = null
where schema_name = :'schema' and table_name = :'table'
