-- Tables and indexes that fit into the server's shared buffers together, indexes first, small before large. No parameters.
with relation as (
    select
        c.oid,
        pg_catalog.format('%I.%I', n.nspname, c.relname) as name,
        pg_catalog.pg_relation_size(c.oid) as size,
        c.relkind <> 'i' as is_table
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm', 'i')
        and c.relpersistence <> 't'
        and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour', 'pg_toast')
),

summed as (
    select
        r.*,
        pg_catalog.sum(r.size) over (order by r.is_table, r.size, r.oid) as size_with_earlier
    from relation as r
    where r.size > 0
)

select s.oid, s.name, s.size
from summed as s
where s.size_with_earlier <= (
    select pg_catalog.sum(p.setting::int8 * 8192) from pg_catalog.pg_settings as p where p.name = 'shared_buffers'
)
order by s.is_table, s.size, s.oid
