-- $1 text: name of a subscription in this database
select s.subenabled as enabled, st.pid as worker_pid
from pg_catalog.pg_subscription as s
join pg_catalog.pg_database as d on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
left join pg_catalog.pg_stat_subscription as st on st.subid = s.oid and st.relid is null and st.pid is not null
where s.subname = $1
limit 1
