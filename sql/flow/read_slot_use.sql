-- How far the consumer of a slot of this database is, and whether one is connected.
-- $1 text: slot
select
    s.active,
    s.active_pid,
    s.confirmed_flush_lsn,
    coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)::int8 as lag_bytes
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1 and s.database = pg_catalog.current_database()
