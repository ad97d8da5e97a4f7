-- Lets go of a slot and the WAL that it keeps. $1 text: name
select pg_catalog.pg_drop_replication_slot($1)
