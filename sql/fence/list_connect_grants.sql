-- Who may connect to this database, by grant; the default grants when none was ever changed.
-- $1 text[]: general roles. One row a grant; grantee is null for PUBLIC.
select
    grantor.rolname::text as grantor,
    grantee.rolname::text as grantee,
    acl.is_grantable,
    acl.grantor = d.datdba as by_owner,
    acl.grantee = d.datdba as to_owner,
    acl.grantee = 0 or exists (
        select from pg_catalog.pg_roles as general
        where general.rolname = any ($1::text[]) and not general.rolsuper
            and pg_catalog.pg_has_role(general.oid, acl.grantee, 'USAGE')
    ) as reaches_general
from pg_catalog.pg_database as d
cross join lateral pg_catalog.aclexplode(
    coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))
) as acl
join pg_catalog.pg_roles as grantor on grantor.oid = acl.grantor
left join pg_catalog.pg_roles as grantee on grantee.oid = acl.grantee
where d.datname = pg_catalog.current_database() and acl.privilege_type = 'CONNECT'
order by grantee.rolname nulls first, grantor.rolname
