-- $1 text: command
select s.name, s.ms, s.done_at::text as done_at
from pgdetour.step as s
where s.command = $1
order by s.done_at
