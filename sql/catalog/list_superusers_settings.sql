-- Settings that only a superuser may make for others. No parameters.
select s.name from pg_catalog.pg_settings as s where s.context in ('superuser', 'superuser-backend')
