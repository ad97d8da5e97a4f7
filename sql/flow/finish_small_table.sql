-- Commits with all that completes a small table.
-- :'ordinals' int4[]: statements that were run; :'schema', :'table'; :'analyzed' boolean: its statistics are there
with done as (
    update pgdetour.post_data
    set done_at = pg_catalog.clock_timestamp()
    where ordinal = any (:'ordinals'::pg_catalog.int4[])
)
update pgdetour.table_copy
set analyzed_at = pg_catalog.clock_timestamp()
where schema_name = :'schema' and table_name = :'table' and :'analyzed'::pg_catalog.bool
