-- Waits for a decision that is being written, and has one that comes later see that its lock is gone.
update pgdetour.detour
set changed_at = pg_catalog.clock_timestamp()
