-- Tables by name, each with its partitions and inheritors at any depth, which can be written to directly.
-- $1 text[]: schemas; $2 text[]: names, in pairs. One row a table and a name that leads to it.
with recursive wanted as (
    select w.ordinal, c.oid
    from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality
        as w (schema_name, table_name, ordinal)
    join pg_catalog.pg_namespace as n on n.nspname = w.schema_name
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = w.table_name
    where c.relkind in ('r', 'p')
    union
    select w.ordinal, i.inhrelid
    from wanted as w
    join pg_catalog.pg_inherits as i on i.inhparent = w.oid
)
select
    w.ordinal,
    c.oid as table_oid,
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    owner.rolname::text as owner_name,
    pg_catalog.pg_has_role(session_user, c.relowner, 'USAGE') as we_own,
    c.relkind = 'p' as is_partitioned,
    (select i.inhparent from pg_catalog.pg_inherits as i where c.relispartition and i.inhrelid = c.oid) as parent_oid,
    array(
        with recursive above as (
            select i.inhparent from pg_catalog.pg_inherits as i where i.inhrelid = c.oid
            union
            select i.inhparent from above join pg_catalog.pg_inherits as i on i.inhrelid = above.inhparent
        )
        select above.inhparent from above
    ) as ancestor_oids,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns
from wanted as w
join pg_catalog.pg_class as c on c.oid = w.oid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_roles as owner on owner.oid = c.relowner
where c.relkind in ('r', 'p')
order by w.ordinal, schema_name, table_name
