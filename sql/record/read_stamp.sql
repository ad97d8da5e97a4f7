-- Which side of which detour this database is.
select s.detour::text as detour, s.side, s.phase, s.serving, s.target, s.changed_at::text as changed_at
from pgdetour.stamp as s
