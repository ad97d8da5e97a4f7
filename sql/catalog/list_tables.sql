-- Ordinary and partitioned tables that are not the system's, an extension's or ours, with their columns and identity.
-- No parameters. One row a table, largest first.
select
    c.oid,
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    c.relkind = 'p' as partitioned,
    c.relispartition as partition,
    c.relpersistence = 'u' as unlogged,
    c.relreplident::text as identity,
    -- None of a table that is gone by now.
    coalesce(pg_catalog.pg_relation_size(c.oid), 0) as bytes,
    coalesce(pg_catalog.pg_relation_size(c.oid), 0)
    + coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0) as data_bytes,
    greatest(c.reltuples, 0)::float8 as rows_estimate,
    (
        select array[rn.nspname::text, r.relname::text]
        from pg_catalog.pg_class as r
        join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
        where c.relispartition and r.oid = pg_catalog.pg_partition_root(c.oid)
    ) as root,
    coalesce(
        (
            select array_agg(distinct a.attname::text)
            from pg_catalog.pg_partition_ancestors(c.oid) as p (relid)
            join pg_catalog.pg_partitioned_table as pt on pt.partrelid = p.relid
            cross join lateral (
                select k.attnum::int4 from unnest(pt.partattrs::int2[]) as k (attnum)
                union all
                -- A column that is in an expression depends on the table.
                select d.objsubid
                from pg_catalog.pg_depend as d
                where pt.partexprs is not null
                    and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = pt.partrelid and d.objsubid > 0
                    and d.refclassid = d.classid and d.refobjid = d.objid and d.refobjsubid = 0 and d.deptype = 'i'
            ) as k
            join pg_catalog.pg_attribute as a on a.attrelid = p.relid and a.attnum = k.attnum and a.attnum > 0
        ),
        '{}'
    ) as partition_key,
    coalesce(
        case c.relreplident
            when 'f' then (
                select array_agg(a.attname::text order by a.attnum)
                from pg_catalog.pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            )
            when 'n' then null
            else (
                select array_agg(a.attname::text order by k.position)
                from pg_catalog.pg_index as i
                cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
                join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                where i.indrelid = c.oid and i.indisvalid and i.indimmediate and k.position <= i.indnkeyatts
                    and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end
            )
        end,
        '{}'
    ) as key,
    coalesce(
        (
            select array_agg(a.attname::text order by k.position)
            from pg_catalog.pg_index as i
            cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, position)
            join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
            where i.indrelid = c.oid and i.indisvalid and i.indimmediate and k.position <= i.indnkeyatts
                and i.indisprimary
        ),
        '{}'
    ) as primary_key,
    cols.names as column_names,
    cols.numbers as column_numbers,
    cols.types as column_types,
    cols.type_oids as column_type_oids,
    cols.base_types as column_base_types,
    cols.not_null as column_not_null,
    cols.generations as column_generations,
    cols.identity as column_identity,
    cols.toastable as column_toastable,
    cols.labels as column_labels,
    cols.equalities as column_equalities
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
    -- Looked up once for a table: most have none but what is built in.
    select exists (
        select from pg_catalog.pg_index as i
        cross join lateral unnest(i.indclass::oid[]) as k (opclass)
        where i.indrelid = c.oid and i.indisunique and k.opclass >= 16384
    ) as has_operator_classes
) as made
cross join lateral (
    select
        coalesce(array_agg(a.attname::text order by a.attnum), '{}') as names,
        coalesce(array_agg(a.attnum order by a.attnum), '{}') as numbers,
        coalesce(array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) order by a.attnum), '{}') as types,
        coalesce(array_agg(a.atttypid order by a.attnum), '{}') as type_oids,
        -- Of domains, through domains over domains: the built-in types that they are over.
        coalesce(
            array_agg(
                case when t.typtype = 'd' then (
                    with recursive base as (
                        select t.typbasetype as oid, t.typtypmod as typmod
                        union all
                        select b.typbasetype, b.typtypmod
                        from base
                        join pg_catalog.pg_type as b on b.oid = base.oid
                        where b.typtype = 'd'
                    )
                    select pg_catalog.format_type(base.oid, base.typmod)
                    from base
                    join pg_catalog.pg_type as b on b.oid = base.oid
                    where b.typtype <> 'd' and b.oid < 16384
                ) end
                order by a.attnum
            ),
            '{}'
        ) as base_types,
        coalesce(array_agg(a.attnotnull order by a.attnum), '{}') as not_null,
        -- Their expressions; none of a table that is gone by now.
        coalesce(
            array_agg(
                case when a.attgenerated <> '' then coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') end
                order by a.attnum
            ),
            '{}'
        ) as generations,
        coalesce(array_agg(a.attidentity <> '' order by a.attnum), '{}') as identity,
        coalesce(array_agg(a.attstorage <> 'p' order by a.attnum), '{}') as toastable,
        coalesce(
            array_agg(
                (
                    select pg_catalog.jsonb_agg(e.enumlabel::text order by e.enumsortorder)::text
                    from pg_catalog.pg_enum as e
                    where e.enumtypid = case t.typcategory when 'A' then t.typelem else t.oid end
                )
                order by a.attnum
            ),
            '{}'
        ) as labels,
        -- What a unique index finds equal values by, where no name without a schema finds it: before others the primary key.
        coalesce(
            array_agg(
                case when made.has_operator_classes then (
                    select pg_catalog.format('operator(%I.%s)', os.nspname, o.oprname)
                    from pg_catalog.pg_index as i
                    cross join lateral unnest(i.indkey::int2[], i.indclass::oid[]) as k (attnum, opclass)
                    join pg_catalog.pg_opclass as oc on oc.oid = k.opclass
                    join pg_catalog.pg_am as m on m.oid = oc.opcmethod and m.amname = 'btree'
                    join pg_catalog.pg_amop as e
                        on e.amopfamily = oc.opcfamily and e.amopstrategy = 3
                            and e.amoplefttype = oc.opcintype and e.amoprighttype = oc.opcintype
                    join pg_catalog.pg_operator as o on o.oid = e.amopopr
                    join pg_catalog.pg_namespace as os on os.oid = o.oprnamespace
                    where i.indrelid = c.oid and i.indisunique and k.attnum = a.attnum and os.nspname <> 'pg_catalog'
                    order by i.indisprimary desc, i.indexrelid
                    limit 1
                ) end
                order by a.attnum
            ),
            '{}'
        ) as equalities
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
) as cols
where c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e'
    )
order by data_bytes desc, schema_name, table_name
