-- The role that restrict has made for this database, whatever it is called; whether we have its privileges, without which
-- nothing that it owns can be given away or dropped; and those of the one that it was made like, which would get it.
-- $1 text: that one; null: none.
select
    r.rolname::text as role_name,
    pg_catalog.pg_has_role(r.oid, 'USAGE') as has_privileges,
    coalesce((select pg_catalog.pg_has_role(l.oid, 'USAGE') from pg_catalog.pg_roles as l where l.rolname = $1), false)
        as has_heirs_privileges
from pg_catalog.pg_roles as r
where pg_catalog.shobj_description(r.oid, 'pg_authid') = pg_catalog.format(
    'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
)
order by r.rolname
