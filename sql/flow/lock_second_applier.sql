-- The lock of a flow's second session, beside the one that holds the first: the server lets go of it when the session ends.
-- :class and :key the first lock's keys
select pg_catalog.pg_advisory_lock(:class, -(:key))
