-- Tables that the comparison in progress has found equal. No parameters.
select v.table_name, v.report from pgdetour.verified as v
