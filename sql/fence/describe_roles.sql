-- What the general roles are to this database, and what we are to them and to it.
-- $1 text[]: general roles. One row a role, also for one that does not exist.
select
    wanted.name as role_name,
    r.oid is not null as present,
    coalesce(r.rolsuper, false) as superuser,
    coalesce(r.oid = d.datdba, false) as owner,
    coalesce(r.rolname = session_user, false) as is_us,
    me.rolsuper as we_are_superuser,
    pg_catalog.pg_has_role(me.oid, d.datdba, 'USAGE') as we_own,
    me.rolsuper or (
        r.oid is not null and (
            pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE')
            or pg_catalog.pg_has_role(me.oid, 'pg_signal_backend', 'USAGE')
        )
    ) as we_may_end,
    me.rolsuper or (
        r.oid is not null and (
            pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE')
            or pg_catalog.pg_has_role(me.oid, 'pg_read_all_stats', 'USAGE')
        )
    ) as we_may_look,
    owner.rolname::text as owner_name,
    me.rolname::text as our_name
from pg_catalog.unnest($1::text[]) as wanted (name)
cross join pg_catalog.pg_database as d
join pg_catalog.pg_roles as owner on owner.oid = d.datdba
join pg_catalog.pg_roles as me on me.rolname = current_user
left join pg_catalog.pg_roles as r on r.rolname = wanted.name
where d.datname = pg_catalog.current_database()
order by wanted.name
