-- Where triggers record changes. No parameters; runs again without effect.
create table if not exists pgdetour.change (
    xid xid8 not null default pg_catalog.pg_current_xact_id(),
    ordinal bigint not null generated always as identity,
    relation oid not null,
    operation text not null,
    old_row text,
    new_row text,
    primary key (xid, ordinal)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 1);
-- Written once, read once: compressing them would cost the application more than it saves. An earlier version of ours has made the
-- table without some of these columns.
alter table pgdetour.change
alter column old_row set storage external,
alter column new_row set storage external,
add column if not exists file oid,
add column if not exists replaced tid,
add column if not exists made tid;
create index if not exists change_replaced on pgdetour.change (xid, file, replaced) where replaced is not null;
comment on column pgdetour.change.replaced is
'Where in that file the version of the row was that this change has replaced by the one in made, if the same transaction had made it.';
comment on table pgdetour.change is
'Row changes, written by triggers in the transaction that makes them: I, U, D of a row in text form, T of a table, S for a temporary transaction. Removed once they are applied on the other side.';

create table if not exists pgdetour.change_order (
    position bigint primary key generated always as identity,
    xid xid8 not null unique,
    placed_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table pgdetour.change_order is
'Committed transactions of pgdetour.change in an order in which they can be applied.';

create table if not exists pgdetour.change_state (
    one boolean primary key default true check (one),
    horizon xid8 not null
);
comment on table pgdetour.change_state is
'Every transaction with a smaller xid has its place in pgdetour.change_order, or never will have one.';
insert into pgdetour.change_state (horizon)
values ('0')
on conflict (one) do nothing;

create table if not exists pgdetour.description (
    relation oid not null,
    ordinal bigint not null,
    schema_name text not null,
    table_name text not null,
    partition boolean not null,
    whole_row boolean not null,
    columns jsonb not null,
    primary key (relation, ordinal)
);
comment on table pgdetour.description is
'What the fields of a row in pgdetour.change are: of each table, the latest description whose ordinal is smaller than the row''s.';

-- Whether this session carries over what the other side has recorded, which is nobody's change here. A session of ours says so;
-- the mirror's subscription is known by its worker. Whoever else acts as a replica has its changes recorded.
-- The look at it is remembered, since it costs more than recording does.
create or replace function pgdetour.carries() returns boolean
language plpgsql security definer
set search_path = ''
as $function$
begin
    if pg_catalog.current_setting('pgdetour.carries', true) = 'on' then
        return true;
    end if;
    if exists (
        select from pg_catalog.pg_stat_subscription as s
        where s.pid = pg_catalog.pg_backend_pid() and s.subname = 'pgdetour_mirror'
    ) then
        perform pg_catalog.set_config('pgdetour.carries', 'on', false);
        return true;
    end if;
    return false;
end
$function$;
revoke all on function pgdetour.carries() from public;

create or replace function pgdetour.record_change() returns trigger
language plpgsql security definer
set search_path = ''
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 3
set bytea_output = 'hex'
set lc_monetary = 'C'
as $function$
declare
    stored oid;
    older tid;
    newer tid;
begin
    if pg_catalog.current_setting('session_replication_role') = 'replica' and pgdetour.carries() then
        return null;
    end if;
    if tg_op <> 'INSERT' and pg_catalog.age(old.xmin) <= 0 then
        stored := pg_catalog.pg_relation_filenode(tg_relid);
        older := old.ctid;
        newer := case tg_op when 'UPDATE' then new.ctid end;
    end if;
    case tg_argv[0]
        when 'I' then
            insert into pgdetour.change (relation, operation, new_row) values (tg_relid, 'I', new::text);
        when 'U' then
            insert into pgdetour.change (relation, operation, new_row, file, replaced, made)
            values (tg_relid, 'U', new::text, stored, older, newer);
        when 'D' then
            insert into pgdetour.change (relation, operation, old_row, file, replaced)
            values (tg_relid, 'D', old::text, stored, older);
        else
            insert into pgdetour.change (relation, operation, old_row, new_row, file, replaced, made)
            values (tg_relid, 'U', old::text, new::text, stored, older, newer);
    end case;
    -- A statement's rows are recorded as it ends. What functions and triggers within it did to them after it is recorded by then,
    -- and goes behind.
    if tg_op <> 'DELETE' and new.xmax <> '0' then
        stored := pg_catalog.pg_relation_filenode(tg_relid);
        newer := new.ctid;
        while newer is not null loop
            update pgdetour.change as c
            set ordinal = default
            where c.xid = pg_catalog.pg_current_xact_id()
                and c.file = stored
                and c.replaced = newer
            returning c.made into newer;
        end loop;
    end if;
    return null;
end
$function$;
revoke all on function pgdetour.record_change() from public;

create or replace function pgdetour.record_truncate() returns trigger
language plpgsql security definer
set search_path = ''
as $function$
begin
    if pg_catalog.current_setting('session_replication_role') = 'replica' and pgdetour.carries() then
        return null;
    end if;
    -- A partition that is younger than our triggers has none for this of its own.
    with emptied as (
        insert into pgdetour.change (relation, operation)
        select p.relid, 'T' from pg_catalog.pg_partition_tree(tg_relid) as p where p.isleaf
        union
        select tg_relid, 'T'
        from pg_catalog.pg_class as c where c.oid = tg_relid and c.relkind <> 'p'
        returning relation
    )
    -- Other rows may come where these were, in the same file if the transaction has made that.
    update pgdetour.change as c
    set replaced = null
    from emptied as e
    where c.xid = pg_catalog.pg_current_xact_id() and c.replaced is not null and c.relation = e.relation;
    return null;
end
$function$;
revoke all on function pgdetour.record_truncate() from public;

-- Notes what the columns of a table are from here on; whether that is other than before.
create or replace function pgdetour.describe(described oid) returns boolean
language plpgsql security definer
set search_path = ''
as $function$
declare
    now_is pgdetour.description;
    known pgdetour.description;
begin
    select
        c.oid, 0, n.nspname, c.relname, c.relispartition, k.attnums is null,
        coalesce(
            (
                select pg_catalog.jsonb_agg(
                    pg_catalog.jsonb_build_object(
                        'name', a.attname, 'type', a.atttypid::int8, 'generated', a.attgenerated <> '',
                        'key', k.attnums is null or a.attnum = any(k.attnums)
                    )
                    order by a.attnum
                )
                from pg_catalog.pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            ),
            '[]'
        )
    into now_is
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    left join lateral (
        select pg_catalog.array_agg(u.attnum) as attnums
        from pg_catalog.pg_index as i
        cross join lateral unnest(i.indkey::int2[]) with ordinality as u (attnum, position)
        where i.indrelid = c.oid and i.indisvalid and i.indimmediate and u.position <= i.indnkeyatts
            and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end
    ) as k on true
    where c.oid = described;
    select d.* into known
    from pgdetour.description as d
    where d.relation = described
    order by d.ordinal desc
    limit 1;
    if now_is.relation is null then
        return false;
    end if;
    now_is.ordinal := known.ordinal;
    if now_is is not distinct from known then
        return false;
    end if;
    now_is.ordinal := pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('pgdetour.change', 'ordinal'));
    insert into pgdetour.description select now_is.*;
    return true;
end
$function$;
revoke all on function pgdetour.describe(oid) from public;
