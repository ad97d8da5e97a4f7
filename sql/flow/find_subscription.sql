-- A subscription of this database and its apply worker. The connection string, which may hold a password, is not read.
-- $1 text: name
select
    s.oid,
    s.subenabled as enabled,
    s.subslotname::text as slot_name,
    w.pid as worker_pid,
    w.received_lsn,
    w.latest_end_lsn,
    extract(epoch from pg_catalog.clock_timestamp() - w.last_msg_receipt_time)::float8 as silent_seconds,
    (
        select pg_catalog.count(*)
        from pg_catalog.pg_subscription_rel as r
        where r.srsubid = s.oid
    ) as tables
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
left join pg_catalog.pg_stat_subscription as w on w.subid = s.oid and w.relid is null and w.pid is not null
where d.datname = pg_catalog.current_database() and s.subname = $1
order by w.received_lsn desc nulls last
limit 1
