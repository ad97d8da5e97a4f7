-- Moves a slot that nobody reads forwards to a position. Sent without parameters. :'slot' the slot; :'lsn' the position
select end_lsn from pg_catalog.pg_replication_slot_advance(:'slot', :'lsn')
