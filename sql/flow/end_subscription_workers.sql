-- Tells the workers of a subscription to end; those that are alive, parallel ones included.
-- $1 text: name
select
    pg_catalog.count(*) as workers,
    coalesce(array_agg(w.pid), '{}') as pids,
    pg_catalog.count(*) filter (where pg_catalog.pg_terminate_backend(w.pid)) as told
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
join pg_catalog.pg_stat_subscription as w on w.subid = s.oid
join pg_catalog.pg_stat_activity as a on a.pid = w.pid
where d.datname = pg_catalog.current_database() and s.subname = $1
