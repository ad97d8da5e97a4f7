-- Tables whose changes a subscription of this database applies. $1 text: name
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid
join pg_catalog.pg_subscription_rel as r on r.srsubid = s.oid and r.srsubstate = 'r'
join pg_catalog.pg_class as c on c.oid = r.srrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where d.datname = pg_catalog.current_database() and s.subname = $1
