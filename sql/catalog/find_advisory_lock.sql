-- Whether a backend of this database holds an advisory lock: it sees the same locks only when it is the same server.
-- $1 bigint: key; $2 int4: pid of the holder
select count(*) > 0 as held
from pg_catalog.pg_locks as l
join pg_catalog.pg_database as d on d.oid = l.database
where l.locktype = 'advisory'
    and d.datname = pg_catalog.current_database()
    and l.pid = $2
    and l.granted
    and l.objsubid = 1
    and (l.classid::bigint << 32 | l.objid::bigint) = $1
