-- Notes rows that are not there. $1 table they come from; $2 table they belong to; $3 bytea[], their identities.
insert into pgdetour.unmade_rows (from_table, to_table, identity)
select $1::text, $2::text, i.identity
from pg_catalog.unnest($3::bytea[]) as i (identity)
on conflict do nothing
