-- A marker that arrived through our own flow. :'id' uuid; :'flow' mirror or replay; :'written_at' when
insert into pgdetour.marker (id, flow, written_at)
values (:'id', :'flow', :'written_at')
on conflict (id) do nothing
