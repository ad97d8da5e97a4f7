-- Tells whoever listens on channel "pgdetour" that the restrictions have changed. No parameters.
select pg_catalog.pg_notify('pgdetour', 'restrict')
