-- Rows are made, or gone. $1 table they come from; $2 table they belong to; $3 bytea[], their identities.
delete from pgdetour.unmade_rows
where from_table = $1::text and to_table = $2::text and identity = any ($3::bytea[])
