-- The xid behind all that have ended, in any database; of all its 64 bits, as text. No parameters.
select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text as xid
