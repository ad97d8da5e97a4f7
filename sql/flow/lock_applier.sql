-- One session at a time applies a flow, and a second one on its behalf: that of one who applied before has ended, too. The server lets go
-- of the lock when the session ends. $1 int4, $2 int4: the lock's keys
select
    pg_catalog.pg_advisory_lock($1, $2),
    pg_catalog.pg_advisory_lock($1, -($2::int4)),
    pg_catalog.pg_advisory_unlock($1, -($2::int4))
