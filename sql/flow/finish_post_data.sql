-- Commits with the statement itself.
-- $1 int4: ordinal
update pgdetour.post_data
set done_at = pg_catalog.clock_timestamp()
where ordinal = $1
