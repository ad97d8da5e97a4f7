-- $1 text: phase; $2 text: serving
update pgdetour.stamp
set phase = $1, serving = $2, changed_at = pg_catalog.clock_timestamp()
where (phase, serving) is distinct from ($1, $2)
