-- $1 jsonb: keys to add or replace
update pgdetour.detour
set facts = facts || $1, changed_at = pg_catalog.clock_timestamp()
