-- How sessions of this role write and read values in this database when nobody tells them otherwise. No parameters.
select
    max(s.reset_val) filter (where s.name = 'TimeZone') as time_zone,
    max(pg_catalog.split_part(s.reset_val, ', ', 2)) filter (where s.name = 'DateStyle') as date_order,
    max(s.reset_val) filter (where s.name = 'IntervalStyle') as interval_style,
    max(s.reset_val) filter (where s.name = 'bytea_output') as bytea_output
from pg_catalog.pg_settings as s
where s.name in ('TimeZone', 'DateStyle', 'IntervalStyle', 'bytea_output')
