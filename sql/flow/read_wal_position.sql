-- Where this server's WAL ends, flushed: what streams can have been sent. No parameters.
select
    case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
        else pg_catalog.pg_current_wal_flush_lsn() end as position
