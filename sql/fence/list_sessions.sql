-- Sessions of the general roles in this database, and transactions that they have prepared.
-- $1 text[]: general roles. The longest transaction first; a prepared one has no pid.
select
    a.pid,
    a.usename::text as role_name,
    a.application_name::text as application_name,
    pg_catalog.host(a.client_addr) as address,
    coalesce(a.state, 'unknown') as state,
    coalesce(a.state = 'idle', false) as idle,
    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as transaction_seconds,
    pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 80) as query,
    null::text as gid
from pg_catalog.pg_stat_activity as a
where a.datname = pg_catalog.current_database()
    and a.usename = any ($1::text[])
    and a.backend_type = 'client backend'
    and a.pid <> pg_catalog.pg_backend_pid()
union all
select
    null,
    p.owner::text,
    '',
    null,
    'prepared',
    false,
    extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::float8,
    null,
    p.gid
from pg_catalog.pg_prepared_xacts as p
where p.database = pg_catalog.current_database() and p.owner = any ($1::text[])
order by transaction_seconds desc nulls last, pid
