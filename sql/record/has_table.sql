-- $1 text: name of a table in schema pgdetour
select pg_catalog.to_regclass('pgdetour.' || pg_catalog.quote_ident($1)) is not null as present
