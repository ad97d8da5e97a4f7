-- Whether our schema is there and holds nothing. No parameters.
select exists (
    select
    from pg_catalog.pg_namespace as n
    where n.nspname = 'pgdetour'
        and not exists (select from pg_catalog.pg_class as c where c.relnamespace = n.oid)
        and not exists (select from pg_catalog.pg_proc as p where p.pronamespace = n.oid)
) as idle
