-- Whose tables these are, and whether their row-level security binds the owner too.
-- $1 oid[]: tables
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    o.rolname::text as owner,
    o.rolsuper as superuser,
    c.relforcerowsecurity as forced,
    c.relrowsecurity and c.relforcerowsecurity as enforced,
    c.relrowsecurity and c.relforcerowsecurity and not o.rolsuper and not o.rolbypassrls as binds_owner
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_roles as o on o.oid = c.relowner
where c.oid = any ($1)
order by n.nspname, c.relname
