-- The next transactions in their order, each with its changes in theirs. $1 int8: position behind which; $2 int8: position up to
-- which; $3 int8: how many at most
select
    o.position, o.xid::text as xid, (extract(epoch from o.placed_at - '2000-01-01 00:00:00+00') * 1000000)::int8 as placed_at,
    c.ordinal, c.relation, c.operation, c.old_row, c.new_row
from (
    select n.position, n.xid, n.placed_at
    from pgdetour.change_order as n
    where n.position > $1 and n.position <= $2
    order by n.position
    limit $3
) as o
cross join lateral (
    select d.ordinal, d.relation, d.operation, d.old_row, d.new_row
    from pgdetour.change as d
    where d.xid = o.xid
    order by d.ordinal
) as c
order by o.position
