-- Commits with the data, or after them. Variables: schema, table; rows and bytes: numbers
update pgdetour.table_copy
set
    state = 'copied',
    row_count = :rows,
    byte_count = :bytes,
    copied_at = pg_catalog.clock_timestamp(),
    -- Emptying the table before has given it another file.
    origin = case
        when pg_catalog.jsonb_typeof(origin -> 'image') = 'object' then pg_catalog.jsonb_set(
            origin,
            '{image,file}',
            pg_catalog.to_jsonb(coalesce(
                pg_catalog.pg_relation_filenode(pg_catalog.to_regclass(pg_catalog.format('%I.%I', schema_name, table_name))),
                0
            )::pg_catalog.int8)
        )
        else origin
    end
where schema_name = :'schema' and table_name = :'table'
