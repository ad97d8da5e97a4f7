-- $1 text: id of the detour; $2 text: source or target; $3 text: phase; $4 text: serving
insert into pgdetour.stamp (detour, side, phase, serving)
values ($1::text::uuid, $2, $3, $4)
on conflict (one) do nothing
