-- What a database holds whose tables are copied from another. No parameters; runs again without effect.
create table if not exists pgdetour.table_copy (
    schema_name text not null,
    table_name text not null,
    state text not null default 'waiting' check (state in ('waiting', 'copying', 'copied')),
    snapshot text,
    row_count bigint,
    byte_count bigint,
    copied_at timestamptz,
    analyzed_at timestamptz,
    fingerprint text,
    primary key (schema_name, table_name)
);
-- An earlier version has made it without them.
alter table pgdetour.table_copy add column if not exists origin jsonb, add column if not exists image oid;
comment on column pgdetour.table_copy.origin is
'What the table was on the source, beside its definition, before its rows were read: another one of its name is another table. '
'Under "image" what took its rows here.';
comment on column pgdetour.table_copy.image is
'The table that took its rows.';
comment on column pgdetour.table_copy.fingerprint is
'What the table''s definition on the source hashed to when its copy on the target was made.';
comment on column pgdetour.table_copy.snapshot is
'pg_current_snapshot() of the source under which the table was copied: a streamed transaction that it shows is in the copy already.';

create table if not exists pgdetour.post_data (
    ordinal integer primary key,
    kind text not null check (
        kind in ('index', 'constraint', 'other', 'foreign_key', 'validate', 'refresh', 'last')
    ),
    schema_name text,
    table_name text,
    statement text not null,
    done_at timestamptz
);
comment on table pgdetour.post_data is
'Statements that complete the schema once the data are there, in their order; done_at is set in the statement''s own transaction.';

create table if not exists pgdetour.made (
    class oid not null,
    object oid not null,
    primary key (class, object)
);
comment on table pgdetour.made is
'What loads of the schema have made so far: one that begins anew removes it, and clean with the copies, and nothing else.';
