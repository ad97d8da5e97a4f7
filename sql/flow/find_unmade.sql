-- Positions, from 1, of the rows that are noted as not there. $1 table they come from; $2 table they belong to; $3 bytea[],
-- identities of the rows.
select i.position
from pg_catalog.unnest($3::bytea[]) with ordinality as i (identity, position)
join pgdetour.unmade_rows as u on u.from_table = $1::text and u.to_table = $2::text and u.identity = i.identity
order by i.position
