-- Those of the general roles that sessions in this database are not read-only for by default.
-- $1 text[]: general roles.
select r.rolname::text as role_name
from pg_catalog.pg_roles as r
where r.rolname = any ($1::text[])
    and not exists (
        select
        from pg_catalog.pg_db_role_setting as s
        join pg_catalog.pg_database as d on d.oid = s.setdatabase
        cross join lateral unnest(s.setconfig) as c (setting)
        where s.setrole = r.oid
            and d.datname = pg_catalog.current_database()
            -- Of another setting the value need be no boolean.
            and case pg_catalog.split_part(c.setting, '=', 1)
                when 'default_transaction_read_only' then pg_catalog.split_part(c.setting, '=', 2)::boolean
                else false
            end
    )
order by r.rolname
