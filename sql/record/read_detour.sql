-- The detour's record; no row before the first mirror.
select
    d.id::text as id,
    d.phase,
    d.serving,
    d.decided,
    d.facts,
    d.begun_at::text as begun_at,
    d.changed_at::text as changed_at
from pgdetour.detour as d
