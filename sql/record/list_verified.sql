-- What a comparison in the present phase has found out, that was interrupted, and since when. No parameters.
select
    v.table_name,
    v.report,
    v.partial,
    pg_catalog.to_char(pg_catalog.min(v.compared_at) over (), 'YYYY-MM-DD HH24:MI:SS TZ') as since
from pgdetour.verified as v
join pgdetour.detour as d on d.phase = coalesce(v.report, v.partial) ->> 'phase'
