-- The limited role and the one that it is to be like, as far as they are there.
-- $1 text: limited role; $2 text: the other. One row; stored_password only where we may read it.
select
    limited.oid is not null as present,
    model.oid is not null as has_model,
    coalesce(
        pg_catalog.shobj_description(limited.oid, 'pg_authid') = pg_catalog.format(
            'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
        ),
        false
    ) as is_ours,
    coalesce(
        (
            select 'pgdetour.limited=on' = any (s.setconfig)
            from pg_catalog.pg_db_role_setting as s
            where s.setrole = limited.oid and s.setdatabase = database.oid
        ),
        false
    ) as is_marked,
    pg_catalog.quote_ident(database.datname) as database_quoted,
    pg_catalog.format(
        'Limited role that pgdetour made for database "%s".', pg_catalog.current_database()
    ) as remark,
    pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'select') as may_read_password
from pg_catalog.pg_database as database
left join pg_catalog.pg_roles as limited on limited.rolname = $1::text
left join pg_catalog.pg_roles as model on model.rolname = $2::text
where database.datname = pg_catalog.current_database()
