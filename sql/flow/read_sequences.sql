-- Where sequences stand, in the given order; null where one gives its start, or what it was set to, next.
-- $1 oid[]: sequences
select pg_catalog.pg_sequence_last_value(s.oid::pg_catalog.regclass) as value
from unnest($1::oid[]) with ordinality as s (oid, place)
order by s.place
