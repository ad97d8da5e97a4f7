-- Forgets the places of transactions whose changes are all removed, but for the last, which tells how far places were given.
-- $1 int8: position up to which
delete from pgdetour.change_order
where position in (
    select n.position
    from pgdetour.change_order as n
    where n.position <= $1
        and n.position < (select max(l.position) from pgdetour.change_order as l)
        and not exists (select from pgdetour.change as c where c.xid = n.xid)
    order by n.position
    limit 1000
)
