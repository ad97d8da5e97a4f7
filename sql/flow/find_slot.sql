-- A replication slot of this database by name, and how much WAL it keeps. Another database may have one of that name: a server
-- has each name once. $1 text: name
select
    s.plugin::text,
    s.slot_type,
    s.active_pid,
    s.confirmed_flush_lsn,
    s.restart_lsn,
    s.wal_status,
    s.safe_wal_size,
    pg_catalog.pg_wal_lsn_diff(
        case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
            else pg_catalog.pg_current_wal_lsn() end,
        s.restart_lsn
    )::int8 as retained_bytes
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1 and s.database = pg_catalog.current_database()
