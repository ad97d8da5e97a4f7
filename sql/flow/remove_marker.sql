-- $1 text: id of a marker
delete from pgdetour.marker
where id = $1::text::uuid
