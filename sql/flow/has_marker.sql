-- Whether a marker has arrived here. $1 text: its uuid
select exists (select from pgdetour.marker where id = $1::text::uuid) as arrived
