-- The point of no return, unless another run has taken over meanwhile: then no row comes back.
-- $1 text: phase that the switch is in; $2 text: side decided on; $3 jsonb: facts to add or replace; $4 int4: backend that
-- holds our lock; $5 int4, $6 int4: the lock's key. With the target, replay begins here unless the facts say
-- otherwise: what comes after is the users'.
update pgdetour.detour
set
    serving = 'nobody',
    decided = $2,
    changed_at = pg_catalog.clock_timestamp(),
    facts = facts || case
        when $2 = 'target'
            then pg_catalog.jsonb_build_object('capture_start', pg_catalog.pg_current_wal_flush_lsn()::text)
        else '{}'::jsonb
    end || case
        -- Not what is flushed: a subscription commits before its WAL is.
        when $2 = 'target' and facts ? 'staged'
            then pg_catalog.jsonb_build_object('backup_start', pg_catalog.pg_current_wal_insert_lsn()::text)
        else '{}'::jsonb
    end || $3::jsonb
where phase = $1
    and decided is null
    and exists (
        select from pg_catalog.pg_locks as l
        where l.locktype = 'advisory' and l.granted and l.pid = $4
            and l.classid = $5::int4::oid and l.objid = $6::int4::oid and l.objsubid = 2
    )
returning facts
