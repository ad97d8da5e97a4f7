-- What counts the statements that restrictions would refuse. No parameters; runs again without effect.
grant usage on schema pgdetour to public;

create unlogged table if not exists pgdetour.observation (
    table_oid oid not null,
    role_name text not null,
    application_name text not null,
    verb text not null,
    happened_at timestamptz not null
);
comment on table pgdetour.observation is
'One row for each statement that a restriction would have refused and that no counter took in; summed up in pgdetour.observed now and then.';

create table if not exists pgdetour.observed (
    table_oid oid not null,
    role_name text not null,
    application_name text not null,
    verb text not null,
    statements bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    primary key (table_oid, role_name, application_name, verb)
);
comment on table pgdetour.observed is
'Sums of what was in pgdetour.observation.';

create unlogged table if not exists pgdetour.observed_kind (
    counter int4 not null,
    table_oid oid not null,
    role_name text not null,
    application_name text not null,
    verb text not null,
    first_at timestamptz not null
);
comment on table pgdetour.observed_kind is
'Which kind of statement a counter counts.';

-- A counter is two sequences, since nothing else can be counted up without a lock that others wait for, a row or a
-- transaction's number: how often, and when last (microseconds since 1970). They are made ahead, so that no
-- application's transaction ever makes one. PostgreSQL has unlogged sequences from 15 on.
do $$
declare
    unlogged constant text := case when current_setting('server_version_num')::int4 >= 150000 then 'unlogged' else '' end;
begin
    execute format('create %s sequence if not exists pgdetour.observed_next', unlogged);
    for counter in 1..64 loop
        execute format('create %s sequence if not exists pgdetour.observed_count_%s', unlogged, counter);
        execute format('create %s sequence if not exists pgdetour.observed_last_%s', unlogged, counter);
        -- Whoever writes counts with its own rights: a change of rights for each statement would cost as much again.
        execute format(
            'grant update on sequence pgdetour.observed_count_%s, pgdetour.observed_last_%s to public', counter, counter
        );
    end loop;
end
$$;

-- The first statement of its kind in a session, and every one for which there is no counter. It has our rights. It waits for
-- nobody: while another transaction takes a counter for the same kind, and when none is left, it appends a row instead; past
-- 64 MB it counts no more; and whatever goes wrong in it, the statement goes on.
create or replace function pgdetour.observe_first(table_oid oid, verb text, known_as text) returns void
language plpgsql security definer set search_path = '' as $function$
declare
    application constant text := current_setting('application_name');
    now_us constant int8 := 1e6 * date_part('epoch', statement_timestamp());
    chosen int4;
    times oid;
    last_time oid;
begin
    if pg_trigger_depth() = 0 then
        return;
    end if;
    select k.counter into chosen
    from pgdetour.observed_kind as k
    where k.table_oid = observe_first.table_oid
        and k.verb = observe_first.verb
        and k.role_name = session_user
        and k.application_name = application
    limit 1;
    if chosen is null
        and pg_try_advisory_xact_lock(hashtextextended(format('%s %s %s', known_as, session_user, application), 0))
    then
        chosen := nextval('pgdetour.observed_next');
        if chosen <= 64 then
            insert into pgdetour.observed_kind
            values (chosen, table_oid, session_user, application, verb, statement_timestamp());
        else
            chosen := null;
        end if;
    end if;
    if chosen is not null then
        times := format('pgdetour.observed_count_%s', chosen)::regclass;
        last_time := format('pgdetour.observed_last_%s', chosen)::regclass;
        perform nextval(times), setval(last_time, now_us);
        perform set_config(
            known_as,
            -- Blanks, since PostgreSQL 16 reads a number that begins with 0 as octal.
            lpad(times::text, 10) || lpad(last_time::text, 10) || session_user || '/' || application,
            false
        );
    elsif pg_relation_size('pgdetour.observation') < 67108864 then
        insert into pgdetour.observation
        values (table_oid, session_user, application, verb, statement_timestamp());
    end if;
exception when others then
    null;
end
$function$;
comment on function pgdetour.observe_first(oid, text, text) is
'Counts a statement that a restriction would refuse, and finds the counter for those that follow it in the session.';

-- Its arguments: the rule, the prefix of the settings in which a session remembers its counters, the roles. What most
-- statements take is one expression, since each more costs as much as the counting; it holds no transaction of its own
-- that could catch an error, since that would cost as much again, and it cannot fail while the table has the trigger. Every
-- operator is named with its schema, since the search_path is the writer's.
create or replace function pgdetour.observe() returns trigger
language plpgsql as $function$
declare
    known_as constant pg_catalog.text := tg_argv[1] operator(pg_catalog.||) tg_relid operator(pg_catalog.||) tg_op;
    known constant pg_catalog.text := pg_catalog.current_setting(known_as, true);
    statement pg_catalog.text;
begin
    if tg_level operator(pg_catalog.=) 'STATEMENT' then
        if session_user operator(pg_catalog.=) any (tg_argv) and (case
            when pg_catalog.substr(known, 21) operator(pg_catalog.=) (
                session_user operator(pg_catalog.||) '/'
                operator(pg_catalog.||) pg_catalog.current_setting('application_name')
            )
            then
                pg_catalog.nextval(pg_catalog.substr(known, 1, 10)::pg_catalog.oid) is null
                or pg_catalog.setval(
                    pg_catalog.substr(known, 11, 10)::pg_catalog.oid,
                    (1e6 operator(pg_catalog.*) pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()))::pg_catalog.int8
                ) is null
            else true
        end) then
            perform pgdetour.observe_first(tg_relid, tg_op, known_as);
        end if;
        return null;
    end if;
    -- A statement counts once, however many of its rows are protected.
    statement := pg_catalog.format(
        '%s %s %s', tg_relid, tg_op, pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())
    );
    if pg_catalog.current_setting('pgdetour.observed', true) operator(pg_catalog.<>) statement is not false then
        perform pg_catalog.set_config('pgdetour.observed', statement, true);
        perform pgdetour.observe_first(tg_relid, tg_op, known_as);
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end
$function$;
comment on function pgdetour.observe() is
'Counts a statement that a restriction would refuse, and lets it pass.';
revoke execute on function pgdetour.observe() from public;
