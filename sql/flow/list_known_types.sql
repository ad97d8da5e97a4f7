-- Those of the given types that this server has under the same name.
-- $1 text[]: names as format_type() writes them with an empty search_path
select t.name
from unnest($1::text[]) as t (name)
where pg_catalog.to_regtype(t.name) is not null
