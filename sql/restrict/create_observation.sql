-- What counts the statements that restrictions would refuse. No parameters; runs again without effect.
create schema if not exists pgdetour;

create unlogged table if not exists pgdetour.observation (
    table_oid oid not null,
    role_name text not null,
    application_name text not null,
    verb text not null,
    happened_at timestamptz not null
);
comment on table pgdetour.observation is
'One row for each statement that a restriction would have refused; summed up in pgdetour.observed now and then.';

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

-- In the name of whoever writes, with our rights. It appends only, so that no writer waits for another; past 64 MB it
-- counts no more; and whatever goes wrong in it, the statement goes on. Every operator is named with its schema, since
-- the search_path is the writer's.
create or replace function pgdetour.observe() returns trigger
language plpgsql security definer as $function$
declare
    statement pg_catalog.text;
begin
    begin
        if tg_level operator(pg_catalog.=) 'ROW' then
            -- A statement counts once, however many of its rows are protected.
            statement := pg_catalog.format(
                '%s %s %s', tg_relid, tg_op, pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())
            );
        end if;
        if statement is null
            or pg_catalog.current_setting('pgdetour.observed', true) operator(pg_catalog.<>) statement is not false
        then
            if statement is not null then
                perform pg_catalog.set_config('pgdetour.observed', statement, true);
            end if;
            if pg_catalog.pg_relation_size('pgdetour.observation') operator(pg_catalog.<) 67108864::bigint then
                insert into pgdetour.observation
                values (
                    tg_relid, session_user, pg_catalog.current_setting('application_name'), tg_op,
                    pg_catalog.clock_timestamp()
                );
            end if;
        end if;
    exception when others then
        null;
    end;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end
$function$;
comment on function pgdetour.observe() is
'Counts a statement that a restriction would refuse, and lets it pass.';
revoke execute on function pgdetour.observe() from public;
