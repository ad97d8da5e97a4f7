-- What the roles of a rule could do against it.
-- $1 text[]: roles; $2 oid[]: restricted tables. One row a role, also for one that does not exist; mighty are the
-- roles that it may act as and that could undo whatever we do.
select
    wanted.name as role_name,
    r.oid is not null as present,
    coalesce(r.rolsuper, false) as superuser,
    wanted.name = session_user as is_us,
    array(
        select pg_catalog.format('%I.%I', n.nspname, c.relname)
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where c.oid = any ($2::oid[]) and pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER')
        order by n.nspname, c.relname
    ) as owned,
    array(
        select pg_catalog.quote_ident(m.rolname)
        from pg_catalog.pg_roles as m
        where m.oid <> r.oid
            and (
                m.rolsuper
                or m.rolname = session_user
                or m.rolname in ('pg_execute_server_program', 'pg_write_server_files', 'pg_create_subscription')
            )
            and pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
        order by m.rolname
    ) as mighty
from pg_catalog.unnest($1::text[]) as wanted (name)
left join pg_catalog.pg_roles as r on r.rolname = wanted.name
order by wanted.name
