-- A copy of a slot that ends with the session, at the same position. Sent over a replication connection, which knows no
-- parameters. :'slot' the slot; :'copy' the copy's name
select pg_catalog.pg_copy_logical_replication_slot(:'slot', :'copy', true)
