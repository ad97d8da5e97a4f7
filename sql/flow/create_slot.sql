-- Begins to keep changes for a flow. Waits for every transaction of the cluster that has written. $1 text: name
select lsn from pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')
