-- Writes a marker into a flow. $1 text: mirror or replay; $2 text: its id
insert into pgdetour.marker (id, flow)
values ($2::text::uuid, $1)
