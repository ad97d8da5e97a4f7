-- Schemas that are not the system's or ours, and extensions: what an object may be in, by class and oid. No parameters.
select
    'pg_catalog.pg_namespace'::pg_catalog.regclass::oid as classid,
    n.oid,
    'schema' as kind,
    n.nspname::text as name
from pg_catalog.pg_namespace as n
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
union all
select 'pg_catalog.pg_extension'::pg_catalog.regclass::oid, e.oid, 'extension', e.extname::text
from pg_catalog.pg_extension as e
order by 3 desc, 4
