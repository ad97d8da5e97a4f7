-- What is in schema pgdetour, or is that schema, and belongs to a role that could have ours do what it may not do itself. Trusted are
-- ours, superusers, and roles with REPLICATION that ours was made a member of, or may be as a superuser: such a one has begun a detour,
-- while the owner of the application's tables, of whom ours is a member too, has not. No parameters. The first of them, or no row.
with recursive ours as (
    select r.oid from pg_catalog.pg_roles as r where r.rolname in (current_user, session_user)
    union
    select m.roleid from ours as o join pg_catalog.pg_auth_members as m on m.member = o.oid
),

object as (
    select 'pg_catalog.pg_namespace'::pg_catalog.regclass as classid, n.oid, n.nspowner as owner
    from pg_catalog.pg_namespace as n
    where n.nspname = 'pgdetour'
    union all
    select 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relowner
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = 'pgdetour'
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, p.proowner
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = 'pgdetour'
)

select pg_catalog.pg_describe_object(o.classid, o.oid, 0) as object, r.rolname::text as owner
from object as o
join pg_catalog.pg_roles as r on r.oid = o.owner
where not r.rolsuper
    and r.rolname not in (current_user, session_user)
    and not (
        r.rolreplication and (
            r.oid in (select u.oid from ours as u)
            or exists (select from pg_catalog.pg_roles as s where s.rolname = current_user and s.rolsuper)
        )
    )
order by o.classid <> 'pg_catalog.pg_namespace'::pg_catalog.regclass, o.oid
limit 1
