-- What a restricted table's triggers call. No parameters; runs again without effect.
create or replace function pgdetour.refuse() returns trigger
language plpgsql set search_path = '' as $function$
declare
    rule pg_catalog.jsonb := tg_argv[0];
begin
    raise exception using
        errcode = coalesce(rule ->> 'sqlstate', '25006'),
        message = rule ->> 'message',
        detail = pg_catalog.format(
            '%s on table %I.%I is refused for role "%s"%s.', tg_op, tg_table_schema, tg_table_name, session_user,
            case when tg_level = 'ROW' then ' on rows where ' || (rule ->> 'where') else '' end
        ),
        hint = 'This table is restricted during maintenance; view pgdetour.restriction shows which tables are, and for whom.',
        schema = tg_table_schema,
        table = tg_table_name,
        constraint = coalesce(rule ->> 'rule', tg_name);
end
$function$;
comment on function pgdetour.refuse() is
'Refuses a statement on a table that is restricted during maintenance.';
revoke execute on function pgdetour.refuse() from public;
