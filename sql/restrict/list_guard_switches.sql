-- Who may switch event triggers off for a session of theirs or for all, beside superusers. From PostgreSQL 17 on.
-- No parameters. One row each: role_name, null for everybody.
select distinct r.rolname as role_name
from pg_catalog.pg_parameter_acl as p
cross join lateral pg_catalog.aclexplode(p.paracl) as a
left join pg_catalog.pg_roles as r on a.grantee = r.oid
where p.parname = 'event_triggers'
    and a.privilege_type in ('SET', 'ALTER SYSTEM')
    and not coalesce(r.rolsuper, false)
order by role_name
