-- Oldest xid that is running, in any database; the next one when none is. As text. No parameters.
select pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text as xid
