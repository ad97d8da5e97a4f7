-- Oldest xid that may be running and first that has not begun, as text: xid8 is an unsigned 64-bit number. No parameters.
select
    pg_catalog.pg_snapshot_xmin(s.snapshot)::text as xmin,
    pg_catalog.pg_snapshot_xmax(s.snapshot)::text as xmax
from (select pg_catalog.pg_current_snapshot() as snapshot) as s
