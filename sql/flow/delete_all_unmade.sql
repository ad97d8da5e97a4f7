-- All rows are gone. $1 table they come from; $2 table they belong to.
delete from pgdetour.unmade_rows
where from_table = $1::text and to_table = $2::text
