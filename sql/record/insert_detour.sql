-- $1 text: id; a second run of the same statement changes nothing
insert into pgdetour.detour (id, phase, serving)
values ($1::text::uuid, 'mirroring', 'source')
on conflict (one) do nothing
