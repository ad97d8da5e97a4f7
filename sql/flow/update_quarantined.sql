-- A change that was set aside has been tried again and still does not fit.
-- $1 int8: which; $2 text: kind; $3 text: SQLSTATE; $4 text: constraint; $5 text: message; $6 text: mapped values
update pgdetour.quarantine
set
    kind = $2,
    sqlstate = $3,
    constraint_name = $4,
    message = $5,
    mapped = $6::text::jsonb,
    attempts = attempts + 1,
    tried_at = pg_catalog.clock_timestamp()
where ordinal = $1
