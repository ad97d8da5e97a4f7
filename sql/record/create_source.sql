-- What only the source holds. No parameters; runs again without effect.
create table if not exists pgdetour.quarantine (
    ordinal bigint generated always as identity primary key,
    commit_lsn pg_catalog.pg_lsn not null,
    schema_name text not null,
    table_name text not null,
    key jsonb,
    key_after jsonb,
    operation text not null check (operation in ('insert', 'update', 'delete', 'truncate')),
    kind text not null,
    old_row jsonb,
    new_row jsonb,
    mapped jsonb,
    sqlstate text,
    constraint_name text,
    message text not null,
    attempts integer not null default 1,
    quarantined_at timestamptz not null default pg_catalog.clock_timestamp(),
    tried_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.quarantine is
'Changes of the target that did not fit here, and later ones of the same rows, in commit order. Without a key a change holds back all later ones of its table. Rows have the names and text values of the target; mapped has the values that were to be written, by table.';
create table if not exists pgdetour.unmade_rows (
    from_table text not null,
    to_table text not null,
    identity bytea not null,
    primary key (from_table, to_table, identity)
);
comment on table pgdetour.unmade_rows is
'Rows of the target that came to a table here by a change of their key, and could not be made: a large value was not captured with the change, and the target had the row no more. A later change takes each away; until then it is no conflict that it is missing.';
