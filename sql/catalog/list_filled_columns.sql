-- Columns that a sequence fills: those that own one, identities among them, and those whose default takes its values. No parameters.
-- One row a sequence and column: whether they are its values as they are, whether the column is of numbers of which an index gives
-- the furthest, and whether the table's rows are in its partitions.
with filled as (
    select
        d.objid as sequence,
        d.refobjid as table_oid,
        d.refobjsubid as attnum,
        true as is_plain
    from pg_catalog.pg_depend as d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.refobjsubid > 0
        and d.deptype in ('a', 'i')
    union all
    select
        d.refobjid as sequence,
        f.adrelid as table_oid,
        f.adnum as attnum,
        pg_catalog.pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\(''([^'']|'''')+''::regclass\)$' as is_plain
    from pg_catalog.pg_attrdef as f
    join pg_catalog.pg_depend as d on d.objid = f.oid
    where d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
)

select
    s.seqrelid as sequence,
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    a.attname::text as column_name,
    pg_catalog.bool_and(f.is_plain) as is_plain,
    pg_catalog.bool_and(coalesce(nullif(t.typbasetype, 0), t.oid) in (20, 21, 23, 1700))
    and exists (
        select
        from pg_catalog.pg_index as i
        join pg_catalog.pg_class as x on x.oid = i.indexrelid
        join pg_catalog.pg_am as m on m.oid = x.relam
        where i.indrelid = c.oid and i.indisvalid and i.indpred is null and i.indkey[0] = a.attnum and m.amname = 'btree'
    ) as is_readable,
    c.relkind = 'p' as is_partitioned
from filled as f
join pg_catalog.pg_sequence as s on s.seqrelid = f.sequence
join pg_catalog.pg_class as c on c.oid = f.table_oid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = f.attnum
join pg_catalog.pg_type as t on t.oid = a.atttypid
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour') and c.relpersistence <> 't'
group by s.seqrelid, n.nspname, c.oid, c.relname, c.relkind, a.attnum, a.attname
order by n.nspname, c.relname, a.attnum
