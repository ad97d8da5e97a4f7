-- Tables that a publication names, whether only some of their rows, and which of their columns when not all, by name.
-- $1 text: publication
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    c.oid as relation,
    pr.oid as member,
    -- Its columns and its filter as the catalog keeps them: before 15 it has neither.
    pg_catalog.md5(nullif(pg_catalog.concat_ws(
        '|', pg_catalog.to_jsonb(pr) ->> 'prattrs', pg_catalog.to_jsonb(pr) ->> 'prqual'
    ), '')) as part,
    pg_catalog.to_jsonb(pr) ->> 'prqual' is not null as filtered,
    (
        select array_agg(a.attname::text order by a.attname::text collate "C")
        from pg_catalog.jsonb_array_elements_text(nullif(pg_catalog.to_jsonb(pr) -> 'prattrs', 'null')) as k (attnum)
        join pg_catalog.pg_attribute as a on a.attrelid = pr.prrelid and a.attnum = k.attnum::int2
    ) as columns
from pg_catalog.pg_publication_rel as pr
join pg_catalog.pg_publication as p on p.oid = pr.prpubid
join pg_catalog.pg_class as c on c.oid = pr.prrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where p.pubname = $1
