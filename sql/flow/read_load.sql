-- How busy a server is: sessions of others that run something now, and up to where the slowest of its standbys has applied
-- what it has written.
-- $1 text: our own application name's beginning, as a LIKE pattern
select
    (
        select pg_catalog.count(*)
        from pg_catalog.pg_stat_activity as a
        where a.state = 'active' and a.backend_type = 'client backend' and a.application_name not like $1
            and a.pid <> pg_catalog.pg_backend_pid()
    ) as active,
    pg_catalog.pg_current_wal_lsn() as written,
    (
        select pg_catalog.min(r.replay_lsn)
        from pg_catalog.pg_stat_replication as r
        where r.application_name not like $1 and not exists (
            select from pg_catalog.pg_replication_slots as s where s.active_pid = r.pid and s.slot_type = 'logical'
        )
    ) as replayed
