-- $1 int4, $2 int4: the key. One row while this very session holds the lock.
select l.pid
from pg_catalog.pg_locks as l
where l.locktype = 'advisory' and l.granted and l.pid = pg_catalog.pg_backend_pid()
    and l.classid = $1::int4::oid and l.objid = $2::int4::oid and l.objsubid = 2
