-- $1 oid[]: classes of objects that a load has made, $2 oid[]: their oids
insert into pgdetour.made (class, object)
select m.class, m.object
from unnest($1::oid[], $2::oid[]) as m (class, object)
on conflict do nothing
