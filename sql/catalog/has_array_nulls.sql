-- Whether sessions of this role read NULL in an array as none when nobody tells them otherwise. No parameters.
select s.reset_val = 'on' as array_nulls
from pg_catalog.pg_settings as s
where s.name = 'array_nulls'
