-- Sessions that hold or wait for a lock on a relation, other than ours, those that have it longest first.
-- $1 text: the relation, quoted; $2 boolean: those too that keep no readers away
select
    a.pid,
    a.usename::text as role,
    a.application_name,
    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as age_seconds,
    coalesce(pg_catalog."left"(a.query, 200), '') as query,
    l.mode
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'relation'
    and l.relation = pg_catalog.to_regclass($1)::oid
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
    and (l.mode = 'AccessExclusiveLock' or $2)
    and l.pid <> pg_catalog.pg_backend_pid()
order by l.granted desc, a.xact_start
