-- $1 int4, $2 int4: the key. Who holds the lock in this database.
select
    a.pid,
    coalesce(a.application_name, '') as application_name,
    coalesce(a.usename::text, '') as role,
    coalesce(a.client_addr::text, 'local') as address,
    a.backend_start::text as since
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted
    and l.classid = $1::int4::oid and l.objid = $2::int4::oid and l.objsubid = 2
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
