-- The replication origin of what a subscription of this database applies. $1 text: its name
select 'pg_' || s.oid as origin
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
where d.datname = pg_catalog.current_database() and s.subname = $1
