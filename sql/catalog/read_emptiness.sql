-- Schemas, their comments, and extensions that a database without user objects may hold. No parameters. One row.
select
    (
        select coalesce(array_agg(n.nspname::text order by n.nspname), '{}')
        from pg_catalog.pg_namespace as n
        where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
            and n.nspname !~ '^pg_(toast|temp)'
    ) as schemas,
    (select coalesce(array_agg(e.extname::text order by e.extname), '{}') from pg_catalog.pg_extension as e) as extensions,
    (
        select coalesce(pg_catalog.jsonb_object_agg(n.nspname, d.description), '{}')
        from pg_catalog.pg_namespace as n
        join pg_catalog.pg_description as d
            on d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objoid = n.oid and d.objsubid = 0
        where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
            and n.nspname !~ '^pg_(toast|temp)'
    ) as comments
