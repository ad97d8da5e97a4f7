-- Sessions that keep the workers of a subscription, or our own sessions, waiting for a lock in this database, and transactions
-- that were prepared and do. No parameters.
-- Those whose transaction is the oldest first.
with waiting as (
    select
        w.pid,
        pg_catalog.pg_blocking_pids(w.pid) as blockers
    from pg_catalog.pg_stat_activity as w
    where w.datname = pg_catalog.current_database()
        and w.wait_event_type = 'Lock'
        and (w.backend_type like 'logical replication%' or w.application_name like 'pgdetour %')
)

select
    b.pid,
    b.usename::text as role_name,
    b.application_name::text as application_name,
    pg_catalog.host(b.client_addr) as address,
    coalesce(b.state, 'unknown') as state,
    coalesce(b.state = 'idle', false) as idle,
    extract(epoch from pg_catalog.statement_timestamp() - b.xact_start)::float8 as transaction_seconds,
    pg_catalog.left(pg_catalog.regexp_replace(b.query, '\s+', ' ', 'g'), 80) as query,
    null::text as gid
from waiting as w
cross join lateral unnest(w.blockers) as p (pid)
join pg_catalog.pg_stat_activity as b on b.pid = p.pid
where b.application_name not like 'pgdetour %'
-- Once for each, however many wait for it.
union
select
    null::int,
    p.owner::text,
    '',
    null,
    'prepared',
    false,
    extract(epoch from pg_catalog.statement_timestamp() - p.prepared)::float8,
    null,
    p.gid
from waiting as w
join pg_catalog.pg_locks as l on l.pid = w.pid and not l.granted
join pg_catalog.pg_locks as g
    on
        g.granted
        and g.pid is null
        and (l.locktype, l.database, l.relation, l.page, l.tuple, l.transactionid, l.classid, l.objid, l.objsubid)
        is not distinct from
        (g.locktype, g.database, g.relation, g.page, g.tuple, g.transactionid, g.classid, g.objid, g.objsubid)
-- Locks of a prepared transaction have no process; that on its number tells which are its own.
join pg_catalog.pg_locks as x on x.virtualtransaction = g.virtualtransaction and x.pid is null
join pg_catalog.pg_prepared_xacts as p on p.transaction = x.transactionid
where 0 = any (w.blockers)
    and x.locktype = 'transactionid'
    and p.database = pg_catalog.current_database()
order by transaction_seconds desc nulls last
