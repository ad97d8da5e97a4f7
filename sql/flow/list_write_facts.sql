-- What decides whether a row can be written to a table: columns that fill themselves, defaults that are constants, identities that refuse values,
-- unique keys that are checked at once, unique indexes over some rows or over expressions, all keys by which rows are found, and whether no row can meet another one in more than one key,
-- those of partitions included. No parameters. One row a table.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_type as t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and (a.atthasdef or a.attidentity <> '' or t.typdefaultbin is not null)
    ) as defaulted,
    coalesce(
        (
            select pg_catalog.jsonb_object_agg(a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
            from pg_catalog.pg_attribute as a
            join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and not a.attisdropped and a.attgenerated = ''
                and pg_catalog.pg_get_expr(d.adbin, d.adrelid)
                    ~ '^(''([^'']|'''')*''|[(]?-?[0-9.]+[)]?|true|false|NULL)(::[[:alnum:]_ ".()[\]]+)?$'
        ),
        '{}'
    ) as constants,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attidentity = 'a'
    ) as always_identity,
    coalesce(
        (
            select pg_catalog.jsonb_agg(
                (
                    select pg_catalog.jsonb_agg(a.attname::text order by k.position)
                    from unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                    where k.position <= i.indnkeyatts
                )
            )
            from pg_catalog.pg_index as i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
                and i.indpred is null and i.indexprs is null
        ),
        '[]'
    ) as unique_keys,
    coalesce(
        (
            select pg_catalog.jsonb_agg(
                pg_catalog.jsonb_build_array(
                    x.relname, pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid), '^.*? USING ', '')
                )
                order by x.relname
            )
            from pg_catalog.pg_index as i
            join pg_catalog.pg_class as x on x.oid = i.indexrelid
            where i.indrelid = c.oid and i.indisunique and i.indisvalid
                and (i.indpred is not null or i.indexprs is not null)
        ),
        '[]'
    ) as partial_keys,
    coalesce(
        (
            select pg_catalog.jsonb_agg(
                (
                    select pg_catalog.jsonb_agg(a.attname::text order by k.position)
                    from unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                    where k.position <= i.indnkeyatts
                )
            )
            from pg_catalog.pg_index as i
            where i.indrelid = c.oid and i.indisvalid and i.indpred is null and i.indexprs is null
        ),
        '[]'
    ) as indexed_keys,
    not exists (
        select
        from (
            select c.oid
            union all
            select p.relid from pg_catalog.pg_partition_tree(c.oid) as p where c.relkind = 'p' and p.relid <> c.oid
        ) as r (oid)
        -- Not joined, or all indexes would be looked at for each table.
        where (
            select pg_catalog.count(*)
            from pg_catalog.pg_index as i
            where i.indrelid = r.oid and (i.indisunique or i.indisexclusion)
        ) > 1
    ) as has_one_key
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
