-- A change that was set aside and all before it, in their order, with what identifies their rows. $1 int8: which
select
    q.ordinal, q.schema_name, q.table_name, q.operation = 'truncate' as emptied, q.key, q.key_after
from pgdetour.quarantine as q
where q.ordinal <= $1
order by q.ordinal
