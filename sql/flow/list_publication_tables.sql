-- Tables that a publication names, and whether only some of their rows or columns. $1 text: publication
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    pg_catalog.to_jsonb(pr) ->> 'prqual' is not null
        or pg_catalog.to_jsonb(pr) ->> 'prattrs' is not null as partial
from pg_catalog.pg_publication_rel as pr
join pg_catalog.pg_publication as p on p.oid = pr.prpubid
join pg_catalog.pg_class as c on c.oid = pr.prrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where p.pubname = $1
