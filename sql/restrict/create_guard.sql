-- What restricts tables that come later, and refuses DDL on restricted ones. No parameters; for superusers; runs
-- again without effect.
create table if not exists pgdetour.rule (
    ordinal integer primary key,
    included jsonb not null,
    excluded jsonb not null,
    roles text[] not null,
    message text not null,
    sqlstate text not null,
    kind integer not null,
    from_above boolean not null,
    argument text not null,
    statement text not null
);
comment on table pgdetour.rule is
'Triggers that a table gets whose name, or that of one it inherits from, matches: statement takes a name and a table.';
comment on column pgdetour.rule.from_above is
'Only for a table that can be written to through one above it that does not match.';

create table if not exists pgdetour.restricting (table_oid oid not null);
comment on table pgdetour.restricting is
'The table that restrict_table is at work on in this transaction, 0 for what keeps a recording complete; empty for everybody else.';

create or replace function pgdetour.restrict_table(relation pg_catalog.oid) returns void
language plpgsql security definer set search_path = '' as $function$
declare
    rule record;
    trigger_name text;
    maker name;
begin
    insert into pgdetour.restricting values (relation);
    for rule in
        select r.*
        from pgdetour.rule as r
        cross join lateral (
            with recursive line as (
                select relation as oid
                union
                select i.inhparent from line join pg_catalog.pg_inherits as i on i.inhrelid = line.oid
            ),
            covered as (
                select c.oid
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
                union
                select i.inhrelid
                from covered
                join pg_catalog.pg_inherits as i on i.inhparent = covered.oid
                join line on line.oid = i.inhrelid
            )
            select
                exists (select from covered) as is_called_for,
                exists (
                    select from line where line.oid <> relation and line.oid not in (select covered.oid from covered)
                ) as is_open_above
        ) as reach
        where reach.is_called_for and (reach.is_open_above or not r.from_above)
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
            select
                case
                    -- Partitions have this one, too, beside their own; it fires last, on the row as it is to be.
                    when rule.kind & 1 = 1 then pg_catalog.format('~pgdetour_restrict_%s_%s', relation, n)
                    when n = 1 then 'pgdetour_restrict'
                    else 'pgdetour_restrict_' || n
                end,
                n
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
    -- A partition gets such triggers only when who makes it may execute what they call.
    for maker in
        select pg_catalog.pg_get_userbyid(c.relowner)
        from pg_catalog.pg_class as c
        where c.oid = relation and c.relkind = 'p'
            and not pg_catalog.has_function_privilege(c.relowner, 'pgdetour.refuse()', 'execute')
            and exists (
                select
                from pg_catalog.pg_trigger as t
                where t.tgrelid = relation and t.tgfoid = 'pgdetour.refuse()'::pg_catalog.regprocedure
                    and t.tgtype & 1 = 1
            )
    loop
        execute pg_catalog.format('grant execute on function pgdetour.refuse() to %I', maker);
    end loop;
    delete from pgdetour.restricting where table_oid = relation;
end
$function$;
comment on function pgdetour.restrict_table(pg_catalog.oid) is
'Gives a table the restrictions that its name, or that of one it inherits from, calls for.';

create or replace function pgdetour.guard() returns event_trigger
language plpgsql set search_path = '' as $function$
declare
    command record;
    restricted record;
    member pg_catalog.oid;
    is_ours boolean := current_user = (
        select pg_catalog.pg_get_userbyid(p.proowner)
        from pg_catalog.pg_proc as p
        where p.oid = 'pgdetour.refuse()'::pg_catalog.regprocedure
    );
    refusing boolean := tg_tag not in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA');
begin
    -- A run of ours knows better than the rules that it is about to replace.
    if pg_catalog.current_setting('application_name') like 'pgdetour %'
        and (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = session_user)
    then
        return;
    end if;
    -- What restrict_table and capture do in the name of a limited role is ours; nobody else can say so of himself.
    if refusing and is_ours then
        refusing := not exists (select from pgdetour.restricting);
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
        -- Neither is a trigger of capture on a table that has just come.
        continue when is_ours and command.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and exists (
            select
            from pg_catalog.pg_trigger as t
            join pg_catalog.pg_proc as p on p.oid = t.tgfoid
            where t.oid = command.objid and p.pronamespace = 'pgdetour'::pg_catalog.regnamespace
        );
        -- DDL on a table reaches those below it, and so does what it lets be attached.
        for member in
            with recursive below as (
                select command.relation as oid where command.relation is not null
                union
                select i.inhrelid from below join pg_catalog.pg_inherits as i on i.inhparent = below.oid
            )
            select below.oid from below
        loop
            if refusing then
                select r.schema_name, r.table_name, r.message, r.sqlstate, r.rule into restricted
                from pgdetour.restriction as r
                where r.table_oid = member and r.applies
                order by r.trigger_name
                limit 1;
                if found then
                    raise exception using
                        errcode = restricted.sqlstate,
                        message = restricted.message,
                        detail = pg_catalog.format(
                            '%s on table %I.%I is refused for role "%s".',
                            tg_tag, restricted.schema_name, restricted.table_name, session_user
                        ),
                        schema = restricted.schema_name,
                        table = restricted.table_name,
                        constraint = restricted.rule;
                end if;
            end if;
            if command.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and exists (
                select
                from pg_catalog.pg_class as c
                where c.oid = member and c.relkind in ('r', 'p') and c.relpersistence <> 't'
            ) then
                perform pgdetour.restrict_table(member);
            end if;
        end loop;
    end loop;
end
$function$;
comment on function pgdetour.guard() is
'Refuses DDL on restricted tables to the roles that are limited there, and restricts tables that come later.';

create or replace function pgdetour.guard_drop() returns event_trigger
language plpgsql security definer set search_path = '' as $function$
declare
    gone record;
    restricted record;
begin
    if pg_catalog.current_setting('application_name') like 'pgdetour %'
        and (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = session_user)
    then
        return;
    end if;
    for gone in
        select
            d.object_type,
            d.address_names[1] as schema_name,
            d.address_names[2] as table_name,
            d.address_names[3] as name
        from pg_catalog.pg_event_trigger_dropped_objects() as d
        -- Parts of a table: some go with a type, a sequence or a function that is the role's own.
        where d.object_type in (
            'trigger', 'rule', 'policy', 'table column', 'default value', 'table constraint'
        )
    loop
        select r.message, r.sqlstate, r.rule into restricted
        from pgdetour.restriction as r
        where r.table_oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', gone.schema_name, gone.table_name))
            and r.applies
        order by r.trigger_name
        limit 1;
        -- Our own triggers are gone already, and with them what the view knows.
        if not found and gone.object_type = 'trigger' and pg_catalog.ltrim(gone.name, '~') like 'pgdetour\_restrict%' then
            select
                r.message, r.sqlstate, coalesce(r.argument::pg_catalog.jsonb ->> 'rule', gone.name) as rule
            into restricted
            from pgdetour.rule as r
            where session_user = any (r.roles)
            order by exists (
                select from pg_catalog.jsonb_to_recordset(r.included) as p (schema text, name text)
                where gone.schema_name operator(pg_catalog.~) p.schema
                    and gone.table_name operator(pg_catalog.~) p.name
            ) desc, r.ordinal
            limit 1;
        end if;
        if found then
            raise exception using
                errcode = restricted.sqlstate,
                message = restricted.message,
                detail = pg_catalog.format(
                    '%s on table %I.%I is refused for role "%s".',
                    tg_tag, gone.schema_name, gone.table_name, session_user
                ),
                schema = gone.schema_name,
                table = gone.table_name,
                constraint = restricted.rule;
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
