-- What the comparison in progress has found out. No parameters.
select v.table_name, v.report, v.partial from pgdetour.verified as v
