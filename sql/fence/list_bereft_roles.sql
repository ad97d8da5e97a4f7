-- Login roles that may connect to this database now and could not any more, if only the grants to $2 were left.
-- $1 text[]: general roles, which are left out; $2 text[]: grantees that keep CONNECT.
-- leads: general roles that are members of the role, and so would gain from a grant to it.
select
    r.rolname::text as role_name,
    r.rolname = session_user as is_us,
    array(
        select general.rolname::text
        from pg_catalog.pg_roles as general
        where general.rolname = any ($1::text[]) and not general.rolsuper
            and pg_catalog.pg_has_role(general.oid, r.oid, 'USAGE')
    ) as leads
from pg_catalog.pg_roles as r
where r.rolcanlogin
    and not r.rolsuper
    and r.rolname <> all ($1::text[])
    and pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
    and not exists (
        select from pg_catalog.pg_roles as grantee
        where grantee.rolname = any ($2::text[]) and pg_catalog.pg_has_role(r.oid, grantee.oid, 'USAGE')
    )
order by r.rolname
