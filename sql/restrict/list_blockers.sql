-- Sessions that hold a lock on a table, other than this one.
-- $1 oid: table.
select
    a.pid,
    a.usename::text as role_name,
    coalesce(a.state, '') as state,
    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as transaction_seconds
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'relation'
    and l.relation = $1
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
    and l.granted
    and l.pid <> pg_catalog.pg_backend_pid()
group by a.pid, a.usename, a.state, a.xact_start
order by transaction_seconds desc nulls last
limit 5
