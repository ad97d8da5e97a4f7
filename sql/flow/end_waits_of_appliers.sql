-- Cancels what the sessions of our role that apply a flow wait for a lock with. One row for each.
-- $1 int4, $2 bigint[]: the keys of the locks by which those that apply are known, the second as in pg_locks
select pg_catalog.pg_cancel_backend(a.pid) as cancelled
from pg_catalog.pg_stat_activity as a
where a.datname = pg_catalog.current_database()
    and a.usename = current_user
    and a.wait_event_type = 'Lock'
    and exists (
        select
        from pg_catalog.pg_locks as l
        where l.pid = a.pid
            and l.locktype = 'advisory'
            and l.classid::bigint = $1::int4
            and l.objid::bigint = any ($2::bigint[])
            and l.granted
    )
