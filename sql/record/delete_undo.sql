-- $1 bigint: ordinal
delete from pgdetour.undo
where ordinal = $1
