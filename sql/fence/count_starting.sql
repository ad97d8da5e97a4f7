-- Number of backends that are connecting to this database, past or before the check of their right to and the reading of
-- their role's settings, and their pids: each holds a lock on the database until pg_stat_activity shows it. No parameters.
select pg_catalog.count(distinct l.pid) as starting, pg_catalog.array_agg(distinct l.pid) as pids
from pg_catalog.pg_locks as l
where l.locktype = 'object'
    and l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
    and l.objid = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
    and l.mode = 'RowExclusiveLock'
    and l.pid <> pg_catalog.pg_backend_pid()
    and not exists (
        select from pg_catalog.pg_stat_activity as a where a.pid = l.pid and a.datname is not null
    )
