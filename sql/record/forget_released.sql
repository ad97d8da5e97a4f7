-- On the publisher: a flow begins to read its slot, and moves it. $1 text: flow; $2 text: id of the detour
update pgdetour.progress
set released = null
where flow = $1 and detour = $2::text::uuid and released is not null
