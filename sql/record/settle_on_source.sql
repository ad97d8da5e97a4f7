-- On the source, while the target does not answer: which switch has ended with general traffic here, whatever the target's
-- record says of it. $1 text: id of the switch; $2 jsonb: facts for that record.
update pgdetour.stamp
set settled_switch = $1::text::uuid, settled_facts = $2, changed_at = pg_catalog.clock_timestamp()
where side = 'source'
