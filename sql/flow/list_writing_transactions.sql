-- Open transactions of the whole cluster that have written, and prepared ones, oldest first: what a new slot waits for.
-- $1 int4: pid that is not meant, our own
select
    'pid ' || a.pid as who,
    a.usename::text as role_name,
    a.datname::text as database_name,
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start)::float8 as age_seconds,
    a.state,
    pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 60) as query
from pg_catalog.pg_stat_activity as a
where a.backend_xid is not null and a.pid <> $1
union all
select
    'prepared transaction "' || p.gid || '"',
    p.owner::text,
    p.database::text,
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared)::float8,
    null,
    null
from pg_catalog.pg_prepared_xacts as p
order by age_seconds desc
