-- Sequences that stand elsewhere than they did; null where one gives its start, or what it was set to, next.
-- $1 oid[]: sequences; $2 int8[]: the value that each had given out last, null where it was not called.
-- One row each of those: its place in the order given, from 0, and the value.
select (s.place - 1)::int4 as place, l.value
from unnest($1::oid[], $2::int8[]) with ordinality as s (oid, known, place)
cross join lateral (
    select pg_catalog.pg_sequence_last_value(s.oid::pg_catalog.regclass) as value
    -- Each is asked once.
    offset 0
) as l
where l.value is distinct from s.known
