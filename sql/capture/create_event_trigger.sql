-- Keeps the recording complete when tables are altered or get new partitions. Needs a superuser. No parameters.
create or replace function pgdetour.follow_definition() returns event_trigger
language plpgsql security definer
set search_path = ''
as $function$
declare
    altered record;
begin
    for altered in
        select distinct c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name, t.truncates
        from pg_catalog.pg_event_trigger_ddl_commands() as e
        cross join lateral (
            select e.objid as relid
            union
            select p.relid from pg_catalog.pg_partition_tree(e.objid) as p
        ) as m
        join pg_catalog.pg_class as c on c.oid = m.relid and c.relkind in ('r', 'p')
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        cross join lateral (
            select
                pg_catalog.bool_or(g.tgname = '!pgdetour_capture_delete') as captured,
                pg_catalog.bool_or(g.tgname = '!pgdetour_capture_truncate') as truncates
            from pg_catalog.pg_trigger as g
            where g.tgrelid = c.oid
        ) as t
        where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and t.captured
    loop
        perform pgdetour.describe(altered.oid);
        if not altered.truncates then
            execute pg_catalog.format(
                'create trigger "!pgdetour_capture_truncate" after truncate on %s for each statement execute function pgdetour.record_truncate()',
                altered.name
            );
        end if;
    end loop;
end
$function$;
revoke all on function pgdetour.follow_definition() from public;

drop event trigger if exists pgdetour_capture;
create event trigger pgdetour_capture on ddl_command_end
when tag in ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'ALTER SCHEMA')
execute function pgdetour.follow_definition()
