-- A publication by name: what it publishes and how. $1 text: name
select
    p.puballtables as all_tables,
    p.pubviaroot as via_root,
    pg_catalog.array_remove(array[
        case when p.pubinsert then 'insert' end,
        case when p.pubupdate then 'update' end,
        case when p.pubdelete then 'delete' end,
        case when p.pubtruncate then 'truncate' end
    ], null) as operations,
    p.pubowner as owner,
    -- Another one after each ALTER PUBLICATION ... SET, be it to what was set before. Tables that are added or dropped have entries of
    -- their own.
    p.xmin::pg_catalog.text as version,
    pg_catalog.obj_description(p.oid, 'pg_publication') as comment
from pg_catalog.pg_publication as p
where p.pubname = $1
