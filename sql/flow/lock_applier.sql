-- One session at a time applies a flow; the server lets go of it when the session ends. $1 int4, $2 int4: the lock's keys
select pg_catalog.pg_advisory_lock($1, $2)
