-- Those of the given types that this server has under the same name, with the values of an enum, or of an array of one, as a JSON list.
-- $1 text[]: names as format_type() writes them with an empty search_path
select
    t.name,
    (
        select pg_catalog.jsonb_agg(e.enumlabel::text order by e.enumsortorder)::text
        from pg_catalog.pg_type as y
        join pg_catalog.pg_enum as e on e.enumtypid = case y.typcategory when 'A' then y.typelem else y.oid end
        where y.oid = pg_catalog.to_regtype(t.name)
    ) as labels
from unnest($1::text[]) as t (name)
where pg_catalog.to_regtype(t.name) is not null
