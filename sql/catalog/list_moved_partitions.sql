-- What rows went into or out of partitioned tables without being written there: by topmost table, the partitions that were attached
-- with a file of their own, and those that are no longer there. A table that is gone itself is left out.
-- $1, $2, $3: oids, topmost tables' oids and names of what list_partitions has found earlier.
with known as (
    select k.oid, k.root, k.name
    from unnest($1::pg_catalog.oid[], $2::pg_catalog.oid[], $3::text[]) as k (oid, root, name)
),
present as (
    select t.relid::pg_catalog.oid as oid, k.root
    from (select distinct known.root from known) as k
    cross join lateral pg_catalog.pg_partition_tree(k.root::pg_catalog.regclass) as t
),
moved as (
    select p.root, n.nspname || '.' || c.relname as name, true as attached
    from present as p
    join pg_catalog.pg_class as c on c.oid = p.oid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where p.oid not in (select known.oid from known)
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
    select known.root, known.name, false
    from known
    where known.root in (select present.root from present) and known.oid not in (select present.oid from present)
)
select k.name as table_name, m.attached, array_agg(m.name order by m.name) as partitions
from moved as m
join known as k on k.oid = m.root
group by k.name, m.attached
order by k.name, m.attached
