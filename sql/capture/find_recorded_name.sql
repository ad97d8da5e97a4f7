-- Under which name a table was noted as recording began. $1 oid
select k.schema_name, k.table_name from pgdetour.recorded as k where k.relation = $1
