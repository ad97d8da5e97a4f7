-- $1 int4, $2 int4: the key of the lock that every changing run holds on both sides
select pg_catalog.pg_try_advisory_lock($1, $2) as taken
