-- How far a slot has been read, and how far it can be by now. Sent without parameters. :'slot' the slot
select confirmed_flush_lsn, pg_catalog.pg_current_wal_flush_lsn()
from pg_catalog.pg_replication_slots
where slot_name = :'slot' and database = pg_catalog.current_database()
