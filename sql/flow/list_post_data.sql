-- No parameters.
select p.ordinal, p.kind, p.schema_name, p.table_name, p.statement, p.done_at is not null as done
from pgdetour.post_data as p
order by p.ordinal
