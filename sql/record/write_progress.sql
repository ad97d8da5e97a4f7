-- $1 text: flow; $2 text: id of the detour; $3 pg_lsn: where the flow begins
insert into pgdetour.progress (flow, detour, lsn)
values ($1, $2::text::uuid, $3)
on conflict (flow) do update
set detour = excluded.detour, lsn = excluded.lsn, transactions = 0, changes = 0, released = null, told = null, changed_at = pg_catalog.clock_timestamp()
