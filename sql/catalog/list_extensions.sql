-- Extensions of this database, and whether the right to create in a database is enough to create each. No parameters.
select e.extname::text as name, n.nspname::text as schema_name, coalesce(v.trusted, false) as trusted
from pg_catalog.pg_extension as e
join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
left join pg_catalog.pg_available_extension_versions as v on v.name = e.extname and v.version = e.extversion
where e.extname <> 'plpgsql'
order by e.extname
