-- Takes a decision back on which nobody has acted yet. $1 text: phase that the switch is in; $2 text: side decided on
update pgdetour.detour
set decided = null, changed_at = pg_catalog.clock_timestamp()
where phase = $1 and decided = $2
