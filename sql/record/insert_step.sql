-- $1 text: command; $2 text: step; $3 float8: milliseconds
insert into pgdetour.step (command, name, ms)
values ($1, $2, $3)
on conflict (command, name) do update set ms = excluded.ms, done_at = pg_catalog.clock_timestamp()
