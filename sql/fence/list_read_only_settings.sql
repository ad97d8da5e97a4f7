-- default_transaction_read_only of each general role in this database, and whether we may change it: as we are, or as the
-- role itself.
-- $1 text[]: general roles. One row for each that exists; the value is null where none is set.
select
    r.rolname::text as role_name,
    (
        select pg_catalog.split_part(c.setting, '=', 2)
        from pg_catalog.pg_db_role_setting as s
        join pg_catalog.pg_database as d on d.oid = s.setdatabase
        cross join lateral unnest(s.setconfig) as c (setting)
        where s.setrole = r.oid
            and d.datname = pg_catalog.current_database()
            and pg_catalog.split_part(c.setting, '=', 1) = 'default_transaction_read_only'
    ) as value,
    me.rolsuper or (
        me.rolcreaterole and not r.rolsuper
        -- Since 16 CREATEROLE says nothing of roles that somebody else has made.
        and (v.num < 160000 or pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION'))
    ) as may_alter,
    pg_catalog.pg_has_role(me.oid, r.oid, case when v.num < 160000 then 'MEMBER' else 'SET' end) as may_become,
    me.rolname::text as our_name
from pg_catalog.pg_roles as r
join pg_catalog.pg_roles as me on me.rolname = current_user
cross join (select pg_catalog.current_setting('server_version_num')::int as num) as v
where r.rolname = any ($1::text[])
order by r.rolname
