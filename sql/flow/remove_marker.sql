-- $1 text: id of a marker that has served, on the side that wrote it or on the one where it arrived
with arrived as (
    delete from pgdetour.arrived
    where id = $1::text::uuid
)

delete from pgdetour.marker
where id = $1::text::uuid
