-- Forgets the places of transactions whose changes are all removed. $1 int8: position up to which
delete from pgdetour.change_order
where position in (
    select n.position
    from pgdetour.change_order as n
    where n.position <= $1
        and not exists (select from pgdetour.change as c where c.xid = n.xid)
    order by n.position
    limit 1000
)
