-- What the roles of a rule could do against it.
-- $1 text[]: roles; $2 oid[]: restricted tables. One row a role, also for one that does not exist; mighty are the
-- roles that it may act as and that could undo whatever we do, makers those that could make a role of which no rule knows,
-- to write in its place.
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
        select pg_catalog.quote_ident(n.nspname)
        from pg_catalog.pg_namespace as n
        where pg_catalog.pg_has_role(r.oid, n.nspowner, 'MEMBER')
            and exists (select from pg_catalog.pg_class as c where c.relnamespace = n.oid and c.oid = any ($2::oid[]))
        order by n.nspname
    ) as owned_schemas,
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
    ) as mighty,
    array(
        select pg_catalog.quote_ident(m.rolname)
        from pg_catalog.pg_roles as m
        where m.rolcreaterole and not m.rolsuper and pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
            -- Up to version 15 CREATEROLE makes members of any role. From then on the new role has no more than whoever
            -- makes it can hand on: as an owner, by an option, or by a view or a function that writes with its rights.
            and case
                when pg_catalog.current_setting('server_version_num')::int4 < 160000 then true
                else exists (
                    select
                    from pg_catalog.pg_class as c
                    cross join pg_catalog.pg_roles as a
                    where c.oid = any ($2::oid[])
                        and pg_catalog.pg_has_role(r.oid, a.oid, 'MEMBER')
                        and (
                            pg_catalog.pg_has_role(a.oid, c.relowner, 'USAGE')
                            or pg_catalog.has_any_column_privilege('public', c.oid, 'insert, update')
                            or pg_catalog.has_table_privilege('public', c.oid, 'delete, truncate')
                            or exists (
                                select
                                from pg_catalog.pg_auth_members as g
                                where g.member = a.oid and g.admin_option
                                    and (
                                        pg_catalog.has_any_column_privilege(g.roleid, c.oid, 'insert, update')
                                        or pg_catalog.has_table_privilege(g.roleid, c.oid, 'delete, truncate')
                                    )
                            )
                            or (
                                pg_catalog.has_any_column_privilege(a.oid, c.oid, 'insert, update')
                                or pg_catalog.has_table_privilege(a.oid, c.oid, 'delete, truncate')
                            )
                            and (
                                pg_catalog.has_any_column_privilege(
                                    a.oid, c.oid, 'insert with grant option, update with grant option'
                                )
                                or pg_catalog.has_table_privilege(
                                    a.oid, c.oid, 'delete with grant option, truncate with grant option'
                                )
                                or pg_catalog.has_database_privilege(a.oid, pg_catalog.current_database(), 'create')
                                or exists (
                                    select
                                    from pg_catalog.pg_namespace as n
                                    where n.nspname !~ '^pg_' and pg_catalog.has_schema_privilege(a.oid, n.oid, 'create')
                                )
                            )
                        )
                )
            end
        order by m.rolname
    ) as makers
from pg_catalog.unnest($1::text[]) as wanted (name)
left join pg_catalog.pg_roles as r on r.rolname = wanted.name
order by wanted.name
