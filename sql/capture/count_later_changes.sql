-- Row changes of transactions placed behind a position. $1 int8
select count(*) as changes
from pgdetour.change_order as o
join pgdetour.change as c on c.xid = o.xid
where o.position > $1 and c.operation <> 'S' and c.relation <> 'pgdetour.marker'::pg_catalog.regclass
