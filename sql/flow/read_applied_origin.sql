-- Up to where, on the publisher, a subscription of this database has applied. $1 text: its name
select pg_catalog.pg_replication_origin_progress('pg_' || s.oid, false) as applied
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
where d.datname = pg_catalog.current_database() and s.subname = $1
