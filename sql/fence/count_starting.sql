-- Number of backends that are connecting to this database, past or before the check of their right to: each holds
-- a lock on the database until pg_stat_activity shows it. No parameters.
select pg_catalog.count(distinct l.pid) as starting
from pg_catalog.pg_locks as l
where l.locktype = 'object'
    and l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
    and l.objid = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
    and l.mode = 'RowExclusiveLock'
    and l.pid <> pg_catalog.pg_backend_pid()
    and not exists (
        select from pg_catalog.pg_stat_activity as a where a.pid = l.pid and a.datname is not null
    )
