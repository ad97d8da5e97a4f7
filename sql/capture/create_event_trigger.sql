-- Keeps the recording complete when tables are altered or get new partitions, and from being switched off, were it for the time of
-- a transaction. Needs a superuser. No parameters.
create or replace function pgdetour.follow_definition() returns event_trigger
language plpgsql security definer
set search_path = ''
as $function$
declare
    altered record;
begin
    for altered in
        -- What inherits from a table, and what is of a type, changes with it.
        with recursive named as (
            select coalesce(c.oid, e.objid) as relid
            from pg_catalog.pg_event_trigger_ddl_commands() as e
            left join pg_catalog.pg_class as c
                on e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and c.relnamespace = e.objid
            where e.classid in ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_namespace'::pg_catalog.regclass)
            union
            select m.relid
            from named as n
            cross join lateral (
                select i.inhrelid as relid from pg_catalog.pg_inherits as i where i.inhparent = n.relid
                union all
                select c.oid
                from pg_catalog.pg_class as t
                join pg_catalog.pg_class as c on c.reloftype = t.reltype
                where t.oid = n.relid and t.relkind = 'c'
            ) as m
        )

        select c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name, t.*
        from named as m
        join pg_catalog.pg_class as c on c.oid = m.relid and c.relkind in ('r', 'p')
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        cross join lateral (
            select
                pg_catalog.bool_or(g.tgname = '!pgdetour_capture_delete') as captured,
                pg_catalog.bool_or(g.tgname = '!pgdetour_capture_truncate') as truncates,
                pg_catalog.bool_or(g.tgenabled not in ('O', 'A')) as disabled,
                pg_catalog.string_agg(pg_catalog.format('enable always trigger %I', g.tgname), ', ')
                filter (where g.tgenabled = 'O') as enable
            from pg_catalog.pg_trigger as g
            where g.tgrelid = c.oid and g.tgname like '!pgdetour\_capture\_%'
        ) as t
        where t.captured
    loop
        if altered.disabled then
            raise exception 'triggers by which pgdetour records changes of table % cannot be disabled', altered.name using
                errcode = 'object_in_use',
                detail = 'What is written meanwhile would be missing on the other side.',
                hint = 'SET session_replication_role = replica keeps all other triggers from firing, and foreign keys from being checked, for one session; or disable triggers by their names.';
        end if;
        perform pgdetour.describe(altered.oid);
        continue when altered.truncates and altered.enable is null;
        -- What keeps limited roles from altering restricted tables is told that it is us.
        if pg_catalog.to_regclass('pgdetour.restricting') is not null then
            insert into pgdetour.restricting values (0);
        end if;
        if not altered.truncates then
            execute pg_catalog.format(
                'create or replace trigger "!pgdetour_capture_truncate" after truncate on %s for each statement execute function pgdetour.record_truncate()',
                altered.name
            );
            altered.enable := pg_catalog.concat_ws(', ', altered.enable, 'enable always trigger "!pgdetour_capture_truncate"');
        end if;
        -- Enabled by ENABLE TRIGGER ALL, or cloned for a new partition by a server that does not clone this.
        execute pg_catalog.format('alter table %s %s', altered.name, altered.enable);
        if pg_catalog.to_regclass('pgdetour.restricting') is not null then
            delete from pgdetour.restricting where table_oid = 0;
        end if;
    end loop;
end
$function$;
revoke all on function pgdetour.follow_definition() from public;

-- A column goes with its type, too, by a command that is not of its table.
create or replace function pgdetour.follow_drop() returns event_trigger
language plpgsql security definer
set search_path = ''
as $function$
begin
    perform pgdetour.describe(g.tgrelid)
    from (
        select distinct d.objid
        from pg_catalog.pg_event_trigger_dropped_objects() as d
        where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid > 0
    ) as d
    join pg_catalog.pg_trigger as g on g.tgrelid = d.objid and g.tgname = '!pgdetour_capture_delete';
end
$function$;
revoke all on function pgdetour.follow_drop() from public;

drop event trigger if exists pgdetour_capture;
drop event trigger if exists pgdetour_capture_drop;
create event trigger pgdetour_capture on ddl_command_end
when tag in ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'ALTER SCHEMA', 'ALTER TYPE')
execute function pgdetour.follow_definition();
create event trigger pgdetour_capture_drop on sql_drop execute function pgdetour.follow_drop();
-- As ours do, for a session that acts as a replica.
alter event trigger pgdetour_capture enable always;
alter event trigger pgdetour_capture_drop enable always
