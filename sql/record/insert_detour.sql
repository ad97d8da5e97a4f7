-- $1 text: id; $2 jsonb: facts; a second run of the same statement changes nothing
insert into pgdetour.detour (id, phase, serving, facts)
values ($1::text::uuid, 'mirroring', 'source', $2)
on conflict (one) do nothing
