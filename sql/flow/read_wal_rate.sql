-- WAL in bytes a second that this server has written since its statistics were reset. No parameters.
select
    (w.wal_bytes / greatest(extract(epoch from pg_catalog.clock_timestamp() - w.stats_reset), 1))::float8
        as bytes_per_second
from pg_catalog.pg_stat_wal as w
