-- Keys that wait behind a change that was set aside; a null key holds back its whole table. No parameters.
select distinct q.schema_name, q.table_name, q.operation = 'truncate' as emptied, k.key
from pgdetour.quarantine as q
cross join lateral (
    select q.key
    union all
    select q.key_after where q.key_after is not null
) as k
