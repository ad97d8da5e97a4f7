-- $1 text[]: roles. Who owns the database that we are in, and which of the roles exist and may create in schema public.
select
    d.datname::text as name,
    o.rolname::text as owner,
    o.rolsuper as superuser,
    array(
        select r.rolname::text
        from pg_catalog.pg_roles as r
        where r.rolname = any ($1)
        order by r.rolname
    ) as present,
    array(
        select r.rolname::text
        from pg_catalog.pg_roles as r
        where r.rolname = any ($1)
            and coalesce(
                pg_catalog.has_schema_privilege(r.oid, pg_catalog.to_regnamespace('public')::oid, 'CREATE'), false
            )
        order by r.rolname
    ) as creators
from pg_catalog.pg_database as d
join pg_catalog.pg_roles as o on o.oid = d.datdba
where d.datname = pg_catalog.current_database()
