-- Roles that log in and are members of one of these, at any depth. $1 text[]: roles. One row for each of both.
with recursive members as (
    select g.oid as group_oid, g.rolname::text as group_name, m.member as oid
    from pg_catalog.pg_roles as g
    join pg_catalog.pg_auth_members as m on m.roleid = g.oid
    where g.rolname = any ($1)
    union
    select n.group_oid, n.group_name, m.member
    from members as n
    join pg_catalog.pg_auth_members as m on m.roleid = n.oid
)

select n.group_name, r.rolname::text as name
from members as n
join pg_catalog.pg_roles as r on r.oid = n.oid
where r.rolcanlogin
order by n.group_name, r.rolname
