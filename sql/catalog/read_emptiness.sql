-- Schemas and extensions that a database without user objects may hold. No parameters. One row.
select
    (
        select coalesce(array_agg(n.nspname::text order by n.nspname), '{}')
        from pg_catalog.pg_namespace as n
        where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
            and n.nspname !~ '^pg_(toast|temp)'
    ) as schemas,
    (select coalesce(array_agg(e.extname::text order by e.extname), '{}') from pg_catalog.pg_extension as e) as extensions
