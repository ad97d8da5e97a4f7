-- On the publisher: where a flow leaves its slot. $1 text: flow; $2 text: id of the detour; $3 text: slot
update pgdetour.progress as p
set released = s.confirmed_flush_lsn
from pg_catalog.pg_replication_slots as s
where p.flow = $1 and p.detour = $2::text::uuid and s.slot_name = $3
    and s.database = pg_catalog.current_database()
