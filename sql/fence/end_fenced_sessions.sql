-- Ends idle sessions of the general roles in this database that have begun behind a read-only fence: since our session has
-- raised it, or whenever where another one has.
-- $1 text[]: general roles. One row for each.
select 'ended' as what, a.pid, pg_catalog.pg_terminate_backend(a.pid) as signalled
from pg_catalog.pg_stat_activity as a
where a.datname = pg_catalog.current_database()
    and a.usename = any ($1::text[])
    and a.backend_type = 'client backend'
    and a.pid <> pg_catalog.pg_backend_pid()
    and a.state = 'idle'
    and a.backend_start >= coalesce(
        nullif(pg_catalog.current_setting('pgdetour.fenced_at', true), '')::timestamptz, '-infinity'
    )
