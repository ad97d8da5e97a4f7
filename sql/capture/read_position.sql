-- The last place that was drawn, by a run that is committed or not: nothing that is applied comes after it; 0 before the first.
-- No parameters.
select coalesce(pg_catalog.pg_sequence_last_value(
    pg_catalog.pg_get_serial_sequence('pgdetour.change_order', 'position')::pg_catalog.regclass
), 0) as position
