-- The last place that was given to a transaction; 0 before the first. No parameters.
select coalesce(pg_catalog.pg_sequence_last_value(
    pg_catalog.pg_get_serial_sequence('pgdetour.change_order', 'position')::pg_catalog.regclass
), 0) as position
