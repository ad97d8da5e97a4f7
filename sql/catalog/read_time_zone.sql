-- The TimeZone that sessions of this role have in this database when nobody tells them another one. No parameters.
select s.reset_val as time_zone
from pg_catalog.pg_settings as s
where s.name = 'TimeZone'
