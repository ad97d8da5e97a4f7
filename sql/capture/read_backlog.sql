-- About how many bytes of changes are not applied yet; 0 when there are none. $1 int8: position up to which they are
select
    case
        when w.ordinal is null then 0
        else greatest(1, (
            (coalesce(pg_catalog.pg_sequence_last_value(
                pg_catalog.pg_get_serial_sequence('pgdetour.change', 'ordinal')::pg_catalog.regclass
            ), 0) - w.ordinal + 1)
            * (
                select avg(pg_catalog.pg_column_size(s.*))
                from (select c.* from pgdetour.change as c limit 100) as s
            )
        )::int8)
    end as bytes
from (select) as one
left join lateral (
    select c.ordinal
    from pgdetour.change as c
    where not exists (select from pgdetour.change_order as o where o.xid = c.xid and o.position <= $1)
    order by c.xid, c.ordinal
    limit 1
) as w on true
