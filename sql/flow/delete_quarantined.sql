-- Changes that are applied after all, or given up. $1 int8[]: which
delete from pgdetour.quarantine
where ordinal = any($1)
