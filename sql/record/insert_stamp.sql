-- $1 text: id of the detour; $2 text: source or target; $3 text: phase; $4 text: serving; $5 text: on the
-- source, which database is the target, where that can be told
insert into pgdetour.stamp as s (detour, side, phase, serving, target)
values ($1::text::uuid, $2, $3, $4, $5)
on conflict (one) do update set target = coalesce(excluded.target, s.target)
