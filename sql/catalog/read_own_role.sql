-- Our own role: what it is and what it may do in this database. No parameters. One row.
select
    r.rolname::text as name,
    r.rolsuper as superuser,
    r.rolreplication as replication,
    r.rolbypassrls as bypass_rls,
    r.rolcreaterole as create_role,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') as create_in_database,
    coalesce(
        (
            select pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
            from pg_catalog.pg_roles as g
            where g.rolname = 'pg_create_subscription'
        ),
        false
    ) as create_subscription,
    coalesce(
        (
            select pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
            from pg_catalog.pg_roles as g
            where g.rolname = 'pg_monitor'
        ),
        false
    ) as monitor
from pg_catalog.pg_roles as r
where r.rolname = current_user
