-- How far a flow of this detour has been applied here; no row before the first transaction.
-- $1 text: mirror or replay; $2 text: the detour's uuid
select lsn, transactions, changes, released, told
from pgdetour.progress
where flow = $1 and detour = $2::text::uuid
