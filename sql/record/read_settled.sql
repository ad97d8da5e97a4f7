-- On the source: facts for the record, when this switch has ended with general traffic here while the target did not
-- answer. $1 text: id of the switch
select s.settled_facts as facts
from pgdetour.stamp as s
where s.side = 'source' and s.settled_switch = $1::text::uuid
