-- $1 text[]: names; $2 bigint[]: last values; $3 boolean[]: is_called. Never backwards in the increment's direction.
select pg_catalog.setval(w.name::pg_catalog.regclass, w.last_value, w.is_called)
from unnest($1::text[], $2::bigint[], $3::boolean[]) as w (name, last_value, is_called)
join pg_catalog.pg_sequence as s on s.seqrelid = w.name::pg_catalog.regclass
where s.seqcycle
    or coalesce(
        case when s.seqincrement > 0
            then w.last_value >= pg_catalog.pg_sequence_last_value(s.seqrelid)
            else w.last_value <= pg_catalog.pg_sequence_last_value(s.seqrelid)
        end, true)
