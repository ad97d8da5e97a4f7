-- What of a table's definition a mirror depends on, as one hash a table: columns, types, identity, keys, partitioning.
-- $1 text[]: schemas; $2 text[]: names, in the same order
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    c.oid as relation,
    pg_catalog.md5(pg_catalog.jsonb_build_object(
        'kind', c.relkind,
        'persistence', c.relpersistence,
        'identity', c.relreplident,
        'partition', case when c.relispartition then pg_catalog.pg_get_expr(c.relpartbound, c.oid) end,
        'parents', (
            select pg_catalog.jsonb_agg(pg_catalog.format('%I.%I', pn.nspname, p.relname) order by i.inhseqno)
            from pg_catalog.pg_inherits as i
            join pg_catalog.pg_class as p on p.oid = i.inhparent
            join pg_catalog.pg_namespace as pn on pn.oid = p.relnamespace
            where i.inhrelid = c.oid
        ),
        'columns', (
            select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(
                a.attname,
                pg_catalog.format_type(a.atttypid, a.atttypmod),
                a.attnotnull,
                -- That of a partition is its root's, which is compared itself; before 17 the catalog does not repeat it.
                case when c.relispartition then '' else a.attidentity::text end,
                a.attgenerated,
                case when a.attgenerated <> '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end
            ) order by a.attnum)
            from pg_catalog.pg_attribute as a
            left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'keys', (
            select pg_catalog.jsonb_agg(pg_catalog.pg_get_indexdef(i.indexrelid) order by x.relname)
            from pg_catalog.pg_index as i
            join pg_catalog.pg_class as x on x.oid = i.indexrelid
            where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)
        )
    )::text) as fingerprint
from unnest($1::text[], $2::text[]) as wanted (schema_name, table_name)
join pg_catalog.pg_namespace as n on n.nspname = wanted.schema_name
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = wanted.table_name
where c.relkind in ('r', 'p')
order by n.nspname, c.relname
