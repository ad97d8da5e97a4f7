-- The record of a detour; on the target only. No parameters; runs again without effect.
create table if not exists pgdetour.detour (
    one boolean primary key default true check (one),
    id uuid not null,
    phase text not null,
    serving text not null,
    decided text check (decided in ('source', 'target')),
    facts jsonb not null default '{}',
    begun_at timestamptz not null default pg_catalog.clock_timestamp(),
    changed_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on column pgdetour.detour.decided is
'Side to which a switch has decided to send traffic: set at the point of no return, after which a switch only goes forwards.';
comment on column pgdetour.detour.facts is
'What later steps need and cannot find out again: positions, the mode of the mirror, the figures of each leg.';

create table if not exists pgdetour.step (
    command text not null,
    name text not null,
    done_at timestamptz not null default pg_catalog.clock_timestamp(),
    ms float8 not null,
    primary key (command, name)
);

create table if not exists pgdetour.undo (
    ordinal bigint generated always as identity primary key,
    command text not null,
    action jsonb not null,
    noted_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.undo is
'What takes a switch back, noted before the act; run backwards, then removed.';

create table if not exists pgdetour.event (
    ordinal bigint generated always as identity primary key,
    happened_at timestamptz not null default pg_catalog.clock_timestamp(),
    command text not null,
    message text not null,
    who text not null default session_user,
    host text,
    ms float8
);

create or replace function pgdetour.scratch() returns void
language plpgsql volatile security definer set search_path = '' as $function$
begin
    if pg_catalog.to_regclass('pgdetour.change') is null then
        perform pg_catalog.pg_logical_emit_message(true, 'pgdetour.scratch', '');
    else
        insert into pgdetour.change (relation, operation) values (0, 'S');
    end if;
end
$function$;
comment on function pgdetour.scratch() is
'Marks the current transaction as temporary: none of its changes is replayed on the source.';
grant usage on schema pgdetour to public;
grant execute on function pgdetour.scratch() to public;

create table if not exists pgdetour.recorded (
    relation oid primary key,
    root oid not null,
    schema_name text not null,
    table_name text not null,
    passed_over boolean not null default false
);
comment on table pgdetour.recorded is
'Tables whose changes are recorded since cutover, with the topmost table of partitions: what is made, dropped, attached or detached later is not.';
comment on column pgdetour.recorded.passed_over is
'Replay has let go of changes of the table, or of a partition of it, since the configuration left it out: the source lacks them.';

-- What the present comparison has found out, for one that goes on after it was interrupted.
create table if not exists pgdetour.verified (
    table_name text primary key,
    report jsonb,
    partial jsonb,
    compared_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.verified is
'Tables that were found equal, with the report about each; and of others what was hashed so far: rows and sum of hashes of each bucket, and the ranges of pages that are in it.';
