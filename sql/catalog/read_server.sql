-- What the server is and how much replication it has room for. No parameters. One row.
select
    pg_catalog.current_setting('server_version_num')::int4 as version,
    pg_catalog.current_setting('server_version') as version_text,
    pg_catalog.pg_is_in_recovery() as in_recovery,
    pg_catalog.current_setting('wal_level') as wal_level,
    pg_catalog.current_setting('max_replication_slots')::int4 as max_slots,
    (select pg_catalog.count(*)::int4 from pg_catalog.pg_replication_slots) as used_slots,
    pg_catalog.current_setting('max_wal_senders')::int4 as max_senders,
    (select pg_catalog.count(*)::int4 from pg_catalog.pg_stat_replication) as used_senders,
    pg_catalog.current_setting('max_logical_replication_workers')::int4 as max_logical_workers,
    pg_catalog.current_setting('max_worker_processes')::int4 as max_worker_processes,
    (select pg_catalog.count(*)::int4 from pg_catalog.pg_stat_subscription as s where s.pid is not null) as used_logical_workers,
    coalesce(
        pg_catalog.current_setting('max_active_replication_origins', true),
        pg_catalog.current_setting('max_replication_slots')
    )::int4 as max_origins,
    (select pg_catalog.count(*)::int4 from pg_catalog.pg_replication_origin) as used_origins,
    pg_catalog.current_setting('max_slot_wal_keep_size') as max_slot_wal_keep_size,
    pg_catalog.current_setting('max_prepared_transactions')::int4 as max_prepared_transactions
