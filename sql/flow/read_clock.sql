-- The server's clock, in microseconds since 2000-01-01 UTC, as its log counts. No parameters.
select (extract(epoch from pg_catalog.clock_timestamp() - timestamptz '2000-01-01 00:00:00+00') * 1000000)::int8 as now
