-- Foreign keys of the database, those that partitions inherit left out, and those that nobody enforces (PostgreSQL 18).
-- No parameters. One row a key.
select
    c.conname::text as constraint_name,
    n.nspname::text as schema_name,
    t.relname::text as table_name,
    array(
        select a.attname::text
        from unnest(c.conkey) with ordinality as k (attnum, position)
        join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.attnum
        order by k.position
    ) as columns,
    rn.nspname::text as referenced_schema,
    r.relname::text as referenced_table,
    array(
        select a.attname::text
        from unnest(c.confkey) with ordinality as k (attnum, position)
        join pg_catalog.pg_attribute as a on a.attrelid = c.confrelid and a.attnum = k.attnum
        order by k.position
    ) as referenced_columns,
    array(
        select pg_catalog.format_type(a.atttypid, a.atttypmod)
        from unnest(c.confkey) with ordinality as k (attnum, position)
        join pg_catalog.pg_attribute as a on a.attrelid = c.confrelid and a.attnum = k.attnum
        order by k.position
    ) as referenced_types,
    -- By what a referenced value, on the left, is equal to one that refers to it: null where "=" alone finds that.
    array(
        select case
            when os.nspname <> 'pg_catalog' then pg_catalog.format('operator(%I.%s)', os.nspname, o.oprname)
        end
        from unnest(c.conpfeqop) with ordinality as k (operator, position)
        join pg_catalog.pg_operator as o on o.oid = k.operator
        join pg_catalog.pg_namespace as os on os.oid = o.oprnamespace
        order by k.position
    ) as operators,
    -- Collations of what is referred to, which decide, where that which refers to it has another one.
    array(
        select case
            when ra.attcollation <> 0 and a.attcollation <> 0 and ra.attcollation <> a.attcollation
                then pg_catalog.format('%I.%I', cn.nspname, co.collname)
        end
        from unnest(c.conkey, c.confkey) with ordinality as k (attnum, referenced, position)
        join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.attnum
        join pg_catalog.pg_attribute as ra on ra.attrelid = c.confrelid and ra.attnum = k.referenced
        left join pg_catalog.pg_collation as co on co.oid = ra.attcollation
        left join pg_catalog.pg_namespace as cn on cn.oid = co.collnamespace
        order by k.position
    ) as collations,
    c.confmatchtype = 'f' as match_full,
    coalesce((pg_catalog.to_jsonb(c) ->> 'conperiod')::boolean, false) as is_of_periods,
    c.condeferrable as deferrable,
    c.convalidated as validated
from pg_catalog.pg_constraint as c
join pg_catalog.pg_class as t on t.oid = c.conrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
join pg_catalog.pg_class as r on r.oid = c.confrelid
join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
where c.contype = 'f'
    and c.conparentid = 0
    and coalesce((pg_catalog.to_jsonb(c) ->> 'conenforced')::boolean, true)
order by c.oid
