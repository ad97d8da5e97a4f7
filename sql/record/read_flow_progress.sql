-- $1 text: flow
select p.lsn, p.transactions, p.changes, p.changed_at::text as changed_at
from pgdetour.progress as p
where p.flow = $1
