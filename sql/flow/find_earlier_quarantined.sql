-- The first change that was set aside before another one of the same row. $1 int8: the later one
select min(e.ordinal) as ordinal
from pgdetour.quarantine as q
join pgdetour.quarantine as e on e.schema_name = q.schema_name and e.table_name = q.table_name and e.ordinal < q.ordinal
where q.ordinal = $1
    and (
        q.key is null or e.key is null or e.key = q.key or e.key_after = q.key or e.key = q.key_after
        or e.key_after = q.key_after
    )
