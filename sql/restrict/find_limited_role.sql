-- The role that restrict has made for this database, whatever it is called; whether we are a member of it; and of the one that it
-- was made like.
-- $1 text: that one; null: none.
select
    r.rolname::text as role_name,
    pg_catalog.pg_has_role(r.oid, 'MEMBER') as is_member,
    coalesce((select pg_catalog.pg_has_role(l.oid, 'MEMBER') from pg_catalog.pg_roles as l where l.rolname = $1), false)
        as is_heirs_member
from pg_catalog.pg_roles as r
where pg_catalog.shobj_description(r.oid, 'pg_authid') = pg_catalog.format(
    'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
)
order by r.rolname
