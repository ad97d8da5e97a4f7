-- $1 text: phase; $2 text: serving. On the source, whoever listens on channel "pgdetour" is told the phase; on the
-- target the record has told it.
with changed as (
    update pgdetour.stamp
    set phase = $1, serving = $2, changed_at = pg_catalog.clock_timestamp()
    where (phase, serving) is distinct from ($1, $2)
    returning side, phase
)
select pg_catalog.pg_notify('pgdetour', c.phase) from changed as c where c.side = 'source'
