-- A table was emptied, so that nothing is left for its changes that were set aside before.
-- $1 text: schema; $2 text: table; $3 int8: only those before this one
delete from pgdetour.quarantine
where schema_name = $1 and table_name = $2 and ordinal < $3
