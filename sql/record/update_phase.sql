-- $1 text: phase; $2 text: serving; $3 text: side decided on, or null; $4 jsonb: facts to add or replace.
-- Whoever listens on channel "pgdetour" is told the phase.
with changed as (
    update pgdetour.detour
    set phase = $1, serving = $2, decided = $3, facts = facts || $4, changed_at = pg_catalog.clock_timestamp()
    returning phase
)
select pg_catalog.pg_notify('pgdetour', c.phase) from changed as c
