-- Takes a switch back, unless it has been decided meanwhile: then no row comes back.
-- $1 text: phase; $2 text: serving. Whoever listens on channel "pgdetour" is told the phase.
with changed as (
    update pgdetour.detour
    set phase = $1, serving = $2, changed_at = pg_catalog.clock_timestamp()
    where decided is null
    returning phase
)
select pg_catalog.pg_notify('pgdetour', c.phase) from changed as c
