-- Writes a marker into a flow. $1 text: mirror or replay
insert into pgdetour.marker (flow) values ($1) returning id::text
