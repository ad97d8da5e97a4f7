-- Tables that the present comparison has found equal, for one that goes on after it was interrupted.
create table if not exists pgdetour.verified (
    table_name text primary key,
    report jsonb not null,
    compared_at timestamptz not null default pg_catalog.clock_timestamp()
)
