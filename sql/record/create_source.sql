-- What only the source holds. No parameters; runs again without effect.
create table if not exists pgdetour.quarantine (
    ordinal bigint generated always as identity primary key,
    commit_lsn pg_catalog.pg_lsn not null,
    schema_name text not null,
    table_name text not null,
    key jsonb not null,
    operation text not null check (operation in ('insert', 'update', 'delete', 'truncate')),
    old_row jsonb,
    sqlstate text,
    constraint_name text,
    message text not null,
    quarantined_at timestamptz not null default pg_catalog.clock_timestamp()
);
