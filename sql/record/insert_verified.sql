-- Notes a table that was found equal. $1 text: its name; $2 jsonb: the report about it
insert into pgdetour.verified (table_name, report)
select $1, $2 || pg_catalog.jsonb_build_object('phase', d.phase) from pgdetour.detour as d
on conflict (table_name) do update
set report = excluded.report, partial = null, compared_at = pg_catalog.clock_timestamp()
