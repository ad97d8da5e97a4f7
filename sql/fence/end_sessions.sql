-- Ends sessions of the general roles in this database, idle ones or all.
-- $1 text[]: general roles; $2 boolean: also those that are not idle; $3 int[]: only these processes; null for all.
-- One row for each.
select a.pid, coalesce(a.state = 'idle', false) as idle, pg_catalog.pg_terminate_backend(a.pid) as signalled
from pg_catalog.pg_stat_activity as a
where a.datname = pg_catalog.current_database()
    and a.usename = any ($1::text[])
    and a.backend_type = 'client backend'
    and a.pid <> pg_catalog.pg_backend_pid()
    and ($2 or a.state = 'idle')
    and ($3::int[] is null or a.pid = any ($3::int[]))
