-- Removes some changes of transactions that are applied. $1 int8: position up to which; $2 int8: how many rows at most
delete from pgdetour.change
where ctid = any(
    array(
        select c.ctid
        from (
            select n.xid
            from pgdetour.change_order as n
            where n.position <= $1
            order by n.position
            limit 1000
        ) as o
        cross join lateral (select d.ctid from pgdetour.change as d where d.xid = o.xid) as c
        limit $2
    )
)
