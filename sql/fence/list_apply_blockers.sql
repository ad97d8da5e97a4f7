-- Sessions that keep the workers of a subscription, or our own sessions, waiting for a lock in this database. No parameters.
-- Those whose transaction is the oldest first.
select distinct
    b.pid,
    b.usename::text as role_name,
    b.application_name::text as application_name,
    pg_catalog.host(b.client_addr) as address,
    coalesce(b.state, 'unknown') as state,
    coalesce(b.state = 'idle', false) as idle,
    -- Once for each session, however many wait for it.
    extract(epoch from pg_catalog.statement_timestamp() - b.xact_start)::float8 as transaction_seconds,
    pg_catalog.left(pg_catalog.regexp_replace(b.query, '\s+', ' ', 'g'), 80) as query,
    null::text as gid
from pg_catalog.pg_stat_activity as w
cross join lateral unnest(pg_catalog.pg_blocking_pids(w.pid)) as p (pid)
join pg_catalog.pg_stat_activity as b on b.pid = p.pid
where w.datname = pg_catalog.current_database()
    and w.wait_event_type = 'Lock'
    and (w.backend_type like 'logical replication%' or w.application_name like 'pgdetour %')
    and b.application_name not like 'pgdetour %'
order by transaction_seconds desc nulls last
