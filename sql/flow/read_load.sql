-- How busy a server is: sessions of others that run something now, and how far its standbys are behind.
-- $1 text: our own application name's beginning, as a LIKE pattern
select
    (
        select pg_catalog.count(*)
        from pg_catalog.pg_stat_activity as a
        where a.state = 'active' and a.backend_type = 'client backend' and a.application_name not like $1
            and a.pid <> pg_catalog.pg_backend_pid()
    ) as active,
    (
        select coalesce(extract(epoch from max(r.replay_lag)), 0)::float8
        from pg_catalog.pg_stat_replication as r
        where r.application_name not like $1 and not exists (
            select from pg_catalog.pg_replication_slots as s where s.active_pid = r.pid and s.slot_type = 'logical'
        )
    ) as standby_lag_seconds
