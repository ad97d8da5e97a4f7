-- Moves a slot that nobody reads forwards to a position, or where it is there already, the beginning of the WAL that it keeps: as far as
-- the server passes over what was confirmed before, that goes all the way. Wrapped into a COPY, which knows no parameters.
-- :'slot' the slot; :'lsn' the position
select (pg_catalog.pg_replication_slot_advance(slot_name, greatest(confirmed_flush_lsn, :'lsn'))).end_lsn
from pg_catalog.pg_replication_slots
where slot_name = :'slot' and database = pg_catalog.current_database()
