-- What restricts tables that come later, and refuses DDL on restricted ones. No parameters; for superusers; runs
-- again without effect.
create table if not exists pgdetour.rule (
    ordinal integer primary key,
    included jsonb not null,
    excluded jsonb not null,
    roles text[] not null,
    message text not null,
    kind integer not null,
    argument text not null,
    statement text not null
);
comment on table pgdetour.rule is
'Triggers that a table gets whose name, or that of one it inherits from, matches: statement takes a name and a table.';

create or replace function pgdetour.restrict_table(relation pg_catalog.oid) returns void
language plpgsql security definer set search_path = '' as $function$
declare
    rule pgdetour.rule;
    trigger_name text;
begin
    for rule in
        select r.*
        from pgdetour.rule as r
        where exists (
            with recursive line as (
                select relation as oid
                union
                select i.inhparent from line join pg_catalog.pg_inherits as i on i.inhrelid = line.oid
            )
            select
            from line
            join pg_catalog.pg_class as c on c.oid = line.oid
            join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where exists (
                select from pg_catalog.jsonb_to_recordset(r.included) as p (schema text, name text)
                where n.nspname operator(pg_catalog.~) p.schema and c.relname operator(pg_catalog.~) p.name
            )
            and not exists (
                select from pg_catalog.jsonb_to_recordset(r.excluded) as p (schema text, name text)
                where n.nspname operator(pg_catalog.~) p.schema and c.relname operator(pg_catalog.~) p.name
            )
        )
        order by r.ordinal
    loop
        continue when exists (
            select
            from pg_catalog.pg_trigger as t
            where t.tgrelid = relation and t.tgfoid = 'pgdetour.refuse()'::pg_catalog.regprocedure
                and t.tgtype = rule.kind
                and pg_catalog.replace(
                    pg_catalog.rtrim(pg_catalog.encode(t.tgargs, 'escape'), '0\'), '\\', '\'
                )::pg_catalog.jsonb = rule.argument::pg_catalog.jsonb
        );
        select name.name into trigger_name
        from (
            select case n when 1 then 'pgdetour_restrict' else 'pgdetour_restrict_' || n end, n
            from pg_catalog.generate_series(1, 1000) as n
        ) as name (name, n)
        where not exists (
            select from pg_catalog.pg_trigger as t where t.tgrelid = relation and t.tgname = name.name
        )
        order by name.n
        limit 1;
        begin
            execute pg_catalog.format(
                rule.statement, pg_catalog.quote_ident(trigger_name),
                (
                    select pg_catalog.format('%I.%I', n.nspname, c.relname)
                    from pg_catalog.pg_class as c
                    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
                    where c.oid = relation
                )
            );
        exception when undefined_column or undefined_function or datatype_mismatch or invalid_object_definition then
            raise warning 'table % cannot be restricted as configured: %', relation::pg_catalog.regclass, sqlerrm;
        end;
    end loop;
end
$function$;
comment on function pgdetour.restrict_table(pg_catalog.oid) is
'Gives a table the restrictions that its name, or that of one it inherits from, calls for.';

create or replace function pgdetour.guard() returns event_trigger
language plpgsql set search_path = '' as $function$
declare
    command record;
    restricted record;
    -- As this function's owner act only restrict_table and what was given the owner's rights.
    refusing boolean := tg_tag not in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA')
        and current_user <> (
            select pg_catalog.pg_get_userbyid(p.proowner)
            from pg_catalog.pg_proc as p
            where p.oid = 'pgdetour.refuse()'::pg_catalog.regprocedure
        );
begin
    -- A run of ours knows better than the rules that it is about to replace.
    if pg_catalog.current_setting('application_name') like 'pgdetour %'
        and not exists (select from pgdetour.restriction as r where r.applies)
    then
        return;
    end if;
    for command in
        select
            c.classid,
            c.objid,
            case c.classid
                when 'pg_catalog.pg_trigger'::pg_catalog.regclass
                then (select t.tgrelid from pg_catalog.pg_trigger as t where t.oid = c.objid)
                when 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                then (select w.ev_class from pg_catalog.pg_rewrite as w where w.oid = c.objid)
                when 'pg_catalog.pg_policy'::pg_catalog.regclass
                then (select p.polrelid from pg_catalog.pg_policy as p where p.oid = c.objid)
                when 'pg_catalog.pg_constraint'::pg_catalog.regclass
                then (select k.conrelid from pg_catalog.pg_constraint as k where k.oid = c.objid)
                when 'pg_catalog.pg_class'::pg_catalog.regclass
                then coalesce(
                    (select i.indrelid from pg_catalog.pg_index as i where i.indexrelid = c.objid), c.objid
                )
            end as relation
        from pg_catalog.pg_event_trigger_ddl_commands() as c
    loop
        if refusing then
            select r.schema_name, r.table_name, r.message into restricted
            from pgdetour.restriction as r
            where r.table_oid = command.relation and r.applies
            order by r.trigger_name
            limit 1;
            if found then
                raise exception using
                    errcode = 'read_only_sql_transaction',
                    message = restricted.message,
                    detail = pg_catalog.format(
                        '%s on table %I.%I is refused for role "%s".',
                        tg_tag, restricted.schema_name, restricted.table_name, session_user
                    ),
                    schema = restricted.schema_name,
                    table = restricted.table_name;
            end if;
        end if;
        if command.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and exists (
            select
            from pg_catalog.pg_class as c
            where c.oid = command.objid and c.relkind in ('r', 'p') and c.relpersistence <> 't'
        ) then
            perform pgdetour.restrict_table(command.objid);
        end if;
    end loop;
end
$function$;
comment on function pgdetour.guard() is
'Refuses DDL on restricted tables to the roles that are limited there, and restricts tables that come later.';

create or replace function pgdetour.guard_drop() returns event_trigger
language plpgsql security definer set search_path = '' as $function$
declare
    gone record;
    refusal text;
begin
    for gone in
        select d.address_names[1] as schema_name, d.address_names[2] as table_name, d.address_names[3] as name
        from pg_catalog.pg_event_trigger_dropped_objects() as d
        where d.object_type in ('trigger', 'rule', 'policy')
    loop
        select r.message into refusal
        from pgdetour.restriction as r
        where r.table_oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', gone.schema_name, gone.table_name))
            and r.applies
        order by r.trigger_name
        limit 1;
        -- Our own triggers are gone already, and with them what the view knows.
        if not found and gone.name like 'pgdetour\_restrict%' then
            select r.message into refusal
            from pgdetour.rule as r
            where session_user = any (r.roles)
            order by exists (
                select from pg_catalog.jsonb_to_recordset(r.included) as p (schema text, name text)
                where gone.schema_name operator(pg_catalog.~) p.schema
                    and gone.table_name operator(pg_catalog.~) p.name
            ) desc, r.ordinal
            limit 1;
        end if;
        if refusal is not null then
            raise exception using
                errcode = 'read_only_sql_transaction',
                message = refusal,
                detail = pg_catalog.format(
                    '%s on table %I.%I is refused for role "%s".',
                    tg_tag, gone.schema_name, gone.table_name, session_user
                ),
                schema = gone.schema_name,
                table = gone.table_name;
        end if;
    end loop;
end
$function$;
comment on function pgdetour.guard_drop() is
'Refuses to drop restricted tables and their restrictions to the roles that are limited there.';
revoke execute on function pgdetour.guard_drop() from public;

drop event trigger if exists pgdetour_guard;
drop event trigger if exists pgdetour_guard_drop;
create event trigger pgdetour_guard on ddl_command_end execute function pgdetour.guard();
create event trigger pgdetour_guard_drop on sql_drop execute function pgdetour.guard_drop();
alter event trigger pgdetour_guard enable always;
alter event trigger pgdetour_guard_drop enable always;
