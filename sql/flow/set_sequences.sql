-- Sets sequences to where their namesakes stand, but never back in their own direction; one that cycles has none and is set
-- as it is. $1 oid[]; $2 int8[]: where to; $3 bool[]: whether that value was given out; $4 bool[]: counts up; $5 bool[]:
-- cycles; $6 int8[]: where each stands here that was not called yet.
-- One row each, in the given order: whether it was set.
with standing as materialized (
    select
        w.*,
        coalesce(l.value, w.uncalled_value) as value,
        l.value is not null as called
    from unnest($1::oid[], $2::int8[], $3::bool[], $4::bool[], $5::bool[], $6::int8[])
        with ordinality as w (oid, new_value, new_called, ascends, cycles, uncalled_value, place)
    cross join lateral (
        select pg_catalog.pg_sequence_last_value(w.oid::pg_catalog.regclass) as value
    ) as l
),

decided as materialized (
    select
        s.*,
        case
            when s.cycles then (s.new_value, s.new_called) <> (s.value, s.called)
            when s.new_value = s.value then s.new_called and not s.called
            when s.ascends then s.new_value > s.value
            else s.new_value < s.value
        end as due
    from standing as s
)

select
    d.due,
    case
        when d.due then pg_catalog.setval(d.oid::pg_catalog.regclass, d.new_value, d.new_called)
    end as now
from decided as d
order by d.place
