-- Notes for our session when it has raised a read-only fence; forgotten when the transaction is rolled back. No parameters.
select 'fenced' as what, pg_catalog.set_config('pgdetour.fenced_at', pg_catalog.clock_timestamp()::text, false) as since
