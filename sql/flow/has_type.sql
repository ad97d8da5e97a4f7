-- $1 text: a type's name as format_type writes it
select pg_catalog.to_regtype($1) is not null as known
