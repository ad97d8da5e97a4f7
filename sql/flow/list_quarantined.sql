-- Changes that were set aside, in their order. $1 int8: only those behind it; $2 int8: only this one, or null; $3 int8: how many
select
    q.ordinal, q.commit_lsn, q.schema_name, q.table_name, q.key, q.key_after, q.operation, q.kind, q.old_row, q.new_row,
    q.mapped, q.sqlstate, q.constraint_name, q.message, q.attempts, q.quarantined_at::text as quarantined_at
from pgdetour.quarantine as q
where q.ordinal > $1 and ($2::pg_catalog.int8 is null or q.ordinal = $2)
order by q.ordinal
limit $3
