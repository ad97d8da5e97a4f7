-- What rows went into or out of recorded tables without being written there: by topmost table, the partitions that were attached with
-- a file of their own, and those that are no longer there. A table that is gone itself is left out. No parameters.
with present as (
    select t.relid::pg_catalog.oid as oid, k.relation as root
    from pgdetour.recorded as k
    cross join lateral pg_catalog.pg_partition_tree(k.relation::pg_catalog.regclass) as t
    where k.relation = k.root
),
moved as (
    select p.root, n.nspname || '.' || c.relname as name, true as attached
    from present as p
    join pg_catalog.pg_class as c on c.oid = p.oid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where p.oid not in (select k.relation from pgdetour.recorded as k)
        -- ATTACH writes all columns anew, CREATE TABLE ... PARTITION OF does not: there a column is as old as the table.
        and not exists (
            select from pg_catalog.pg_attribute as a
            join pg_catalog.pg_attribute as s on s.attrelid = a.attrelid and s.attname = 'tableoid'
            where a.attrelid = p.oid and a.attnum > 0 and a.xmin = s.xmin and a.cmin = s.cmin
        )
        and (
            select sum(pg_catalog.pg_relation_size(t.relid)) from pg_catalog.pg_partition_tree(p.oid::pg_catalog.regclass) as t
        ) > 0
    union all
    select k.root, k.schema_name || '.' || k.table_name, false
    from pgdetour.recorded as k
    where k.relation <> k.root
        and k.root in (select c.oid from pg_catalog.pg_class as c)
        and k.relation not in (select present.oid from present)
)
select
    r.schema_name || '.' || r.table_name as table_name,
    m.attached,
    array_agg(m.name order by m.name) as partitions
from moved as m
join pgdetour.recorded as r on r.relation = m.root
group by 1, m.attached
order by 1, m.attached
