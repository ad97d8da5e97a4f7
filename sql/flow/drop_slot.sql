-- Lets go of a slot of this database and the WAL that it keeps. The server itself would drop another database's, too.
-- $1 text: name
select pg_catalog.pg_drop_replication_slot(s.slot_name)
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1 and s.database = pg_catalog.current_database()
