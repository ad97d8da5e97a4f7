-- Whose a replication slot is that is not this database's: another database's, or none where it is physical. $1 text: name
select s.database::text
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1 and s.database is distinct from pg_catalog.current_database()
