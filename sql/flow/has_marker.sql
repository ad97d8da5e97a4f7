-- Whether a marker has arrived here, by our own flow or by PostgreSQL's replication. $1 text: its uuid
select
    exists (select from pgdetour.arrived as a where a.id = $1::text::uuid)
    or exists (select from pgdetour.marker as m where m.id = $1::text::uuid) as arrived
