-- A marker that arrived through our own flow. :'id' uuid; :'flow' mirror or replay; :'written_at' when
-- Not into pgdetour.marker, which is published: the other flow would carry it back.
insert into pgdetour.arrived (id, flow, written_at)
values (:'id', :'flow', :'written_at')
on conflict (id) do nothing
