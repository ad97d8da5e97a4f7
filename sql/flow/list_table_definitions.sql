-- What tables are like, as far as it decides how rows are written to them: their columns with defaults, indexes, constraints, and
-- triggers, among which are those of the foreign keys that refer to them. Whatever alters one of these stores a new row of it.
-- No parameters. One row a table, but for the system's and ours.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    (
        -- One without columns has none of these.
        select pg_catalog.md5(coalesce(string_agg(d.part, ' ' order by d.part collate "C"), ''))
        from (
            select pg_catalog.format('a%s:%s', a.attnum, a.xmin) as part
            from pg_catalog.pg_attribute as a
            where a.attrelid = c.oid and a.attnum > 0
            union all
            select pg_catalog.format('d%s:%s', d.oid, d.xmin)
            from pg_catalog.pg_attrdef as d
            where d.adrelid = c.oid
            union all
            select pg_catalog.format('i%s:%s', i.indexrelid, i.xmin)
            from pg_catalog.pg_index as i
            where i.indrelid = c.oid
            union all
            select pg_catalog.format('c%s:%s', k.oid, k.xmin)
            from pg_catalog.pg_constraint as k
            where k.conrelid = c.oid
            union all
            select pg_catalog.format('t%s', t.oid)
            from pg_catalog.pg_trigger as t
            where t.tgrelid = c.oid
        ) as d
    ) as definition
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
