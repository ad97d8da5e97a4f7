-- WAL in bytes a second that this server has written since its statistics were reset. Less than an hour counts as one: what
-- a server writes when it is set up says nothing of its days. No parameters.
select
    (w.wal_bytes / greatest(extract(epoch from pg_catalog.clock_timestamp() - w.stats_reset), 3600))::float8
        as bytes_per_second
from pg_catalog.pg_stat_wal as w
