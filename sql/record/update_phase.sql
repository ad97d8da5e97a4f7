-- $1 text: phase; $2 text: serving; $3 text: side decided on, or null
update pgdetour.detour
set phase = $1, serving = $2, decided = $3, changed_at = pg_catalog.clock_timestamp()
