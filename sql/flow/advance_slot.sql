-- Moves a slot that nobody reads forwards to a position, no further than the WAL is flushed. $1 text: name; $2 pg_lsn
select end_lsn from pg_catalog.pg_replication_slot_advance($1, $2)
