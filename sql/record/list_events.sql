-- $1 bigint: how many, latest first
select e.happened_at::text as happened_at, e.command, e.message, e.who, e.host, e.ms
from pgdetour.event as e
order by e.ordinal desc
limit $1
