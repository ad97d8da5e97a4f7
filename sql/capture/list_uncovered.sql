-- Captured partitions without a trigger that records that they are emptied: made where no event trigger could add it. And whether
-- they may have been emptied since: they have a file other than the one that a table is made with, which is named by its oid.
-- No parameters.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    coalesce(pg_catalog.pg_relation_filenode(c.oid) <> c.oid, false) as rewritten
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relispartition
    and exists (
        select from pg_catalog.pg_trigger as g where g.tgrelid = c.oid and g.tgname = '!pgdetour_capture_delete'
    )
    and not exists (
        select from pg_catalog.pg_trigger as g where g.tgrelid = c.oid and g.tgname = '!pgdetour_capture_truncate'
    )
order by 1, 2
