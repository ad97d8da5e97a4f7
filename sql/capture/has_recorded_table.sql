-- Whether a table was noted as recording began, and is no partition. $1 oid
select exists (select from pgdetour.recorded as k where k.relation = $1 and k.root = $1) as recorded
