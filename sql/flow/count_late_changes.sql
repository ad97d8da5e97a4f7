-- Row changes of transactions that were committed after a position. The slot's own position stays as it is.
-- $1 text: slot; $2 text: publication; $3 pg_lsn: position
with messages as (
    select c.lsn, pg_catalog.chr(pg_catalog.get_byte(c.data, 0)) as kind, c.ordinal
    from pg_catalog.pg_logical_slot_peek_binary_changes(
        $1::text::name, null, null, 'proto_version', '1', 'publication_names', $2
    ) with ordinality as c (lsn, xid, data, ordinal)
)
select count(*) as changes
from messages as m
where m.kind in ('I', 'U', 'D', 'T')
    and m.ordinal > coalesce((select max(e.ordinal) from messages as e where e.kind = 'C' and e.lsn <= $3), 0)
