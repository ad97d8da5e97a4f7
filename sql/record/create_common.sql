-- Objects that every database of the detour holds. No parameters; runs again without effect.
create table if not exists pgdetour.stamp (
    one boolean primary key default true check (one),
    detour uuid not null,
    side text not null check (side in ('source', 'target', 'backup')),
    phase text not null,
    serving text not null,
    stamped_at timestamptz not null default pg_catalog.clock_timestamp(),
    changed_at timestamptz not null default pg_catalog.clock_timestamp(),
    settled_switch uuid,
    settled_facts jsonb,
    target text
);
comment on column pgdetour.stamp.settled_switch is
'A switch that has ended with general traffic on the source while the target did not say whether it was decided: what its record says of that switch does not count.';
comment on column pgdetour.stamp.target is
'On the source: which database is the target.';
comment on table pgdetour.stamp is
'Which side of a detour this database is. Destructive steps believe this, not the configuration. On the source, phase and serving are a copy for the time when the target is down.';

create table if not exists pgdetour.marker (
    id uuid primary key default pg_catalog.gen_random_uuid(),
    flow text not null check (flow in ('mirror', 'backup', 'replay')),
    written_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.marker is
'Rows written on the publishing side; one that has arrived on the other side proves that all before it has arrived.';

create table if not exists pgdetour.arrived (
    id uuid primary key,
    flow text not null check (flow in ('mirror', 'backup', 'replay')),
    written_at timestamptz not null
);
comment on table pgdetour.arrived is
'Markers that our own flows have brought here. Not published, so that no flow carries them back.';

create table if not exists pgdetour.progress (
    flow text primary key check (flow in ('mirror', 'backup', 'replay')),
    detour uuid not null,
    lsn pg_catalog.pg_lsn not null,
    transactions bigint not null default 0,
    changes bigint not null default 0,
    released pg_catalog.pg_lsn,
    told pg_catalog.pg_lsn,
    changed_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.progress is
'End position, on the publisher, of the last transaction applied here; written in the same transaction as its data. The publisher keeps what it was told of it.';
comment on column pgdetour.progress.released is
'On the publisher: where the flow has left its slot, absent while one reads it. A slot that is ahead of it was moved by somebody else.';
comment on column pgdetour.progress.told is
'On the subscriber: what the publisher has noted as applied. One that knows of less went back in time.';
