-- A new xid: every transaction that has written by now has a smaller one. The xmax of a snapshot would not do: it is
-- behind the last xid that has ended, not the last that was given. As text: xid8 is an unsigned 64-bit number. No parameters.
select pg_catalog.pg_current_xact_id()::text as xid
