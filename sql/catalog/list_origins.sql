-- What tables are beside how they are defined: one that was dropped and made again has another oid, a column made anew another number.
-- $1 text[]: schemas; $2 text[]: names, in the same order
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    pg_catalog.jsonb_build_object(
        'relation', c.oid::pg_catalog.int8,
        -- VACUUM FULL makes a new file, too, and ALTER ... SET STATISTICS a new entry: only both may be values that were rewritten.
        'file', c.relfilenode::pg_catalog.int8,
        'columns', (
            select coalesce(pg_catalog.jsonb_object_agg(a.attname, pg_catalog.jsonb_build_object(
                'number', a.attnum,
                'entry', a.xmin::pg_catalog.text,
                -- What rows have in it that are older than it, as long as no rewrite has put that into them.
                'filled', a.attmissingval::pg_catalog.text,
                'computed', a.attgenerated <> '',
                -- Its default, or what stands for one, is not the same value each time.
                'unsteady', a.attidentity <> '' or a.attgenerated = '' and (
                    coalesce(d.adbin::pg_catalog.text, '') ~ '\{(SQLVALUEFUNCTION|NEXTVALUEEXPR|COERCEVIAIO) '
                    or exists (
                        select
                        from pg_catalog.regexp_matches(d.adbin::pg_catalog.text, ':(?:funcid|opfuncid) (\d+)', 'g') as m (found)
                        join pg_catalog.pg_proc as p on p.oid = m.found[1]::pg_catalog.oid
                        where p.provolatile <> 'i'
                    )
                )
            )), '{}')
            from pg_catalog.pg_attribute as a
            left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        )
    ) as origin
from unnest($1::text[], $2::text[]) as wanted (schema_name, table_name)
join pg_catalog.pg_namespace as n on n.nspname = wanted.schema_name
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = wanted.table_name
where c.relkind in ('r', 'p')
