-- What the rows of captured tables are made of, those that came after an ordinal. $1 int8
select d.relation, d.ordinal, d.schema_name, d.table_name, d.whole_row, d.columns
from pgdetour.description as d
where d.ordinal > $1
order by d.ordinal
