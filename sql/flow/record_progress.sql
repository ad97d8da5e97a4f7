-- Notes how far a flow has been applied, in the transaction that applied it.
-- :'flow' mirror or replay; :'detour' its uuid; :'lsn' end of the last transaction; :'transactions' and :'changes' since the last note
insert into pgdetour.progress as p (flow, detour, lsn, transactions, changes)
values (:'flow', :'detour', :'lsn', :'transactions', :'changes')
on conflict (flow) do update set
    detour = excluded.detour,
    lsn = excluded.lsn,
    transactions = excluded.transactions + case when p.detour = excluded.detour then p.transactions else 0 end,
    changes = excluded.changes + case when p.detour = excluded.detour then p.changes else 0 end,
    changed_at = pg_catalog.clock_timestamp()
