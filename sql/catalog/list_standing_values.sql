-- What settings come back to when they are reset. $1 text[]: names.
select s.name, coalesce(s.reset_val, '') as value from pg_catalog.pg_settings as s where s.name = any ($1)
