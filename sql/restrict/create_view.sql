-- How applications ask what is restricted. No parameters; runs again without effect.
create or replace view pgdetour.restriction as
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    pg_catalog.array_remove(
        array[
            case when t.tgtype::int4 & 4 > 0 then 'insert' end,
            case when t.tgtype::int4 & 16 > 0 then 'update' end,
            case when t.tgtype::int4 & 8 > 0 then 'delete' end,
            case when t.tgtype::int4 & 32 > 0 then 'truncate' end
        ],
        null
    ) as deny,
    array(select pg_catalog.jsonb_array_elements_text(definition.document -> 'roles')) as roles,
    definition.document ->> 'message' as message,
    definition.document -> 'roles' ? session_user::text as applies,
    t.tgrelid as table_oid,
    t.tgname::text as trigger_name,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = t.tgrelid and a.attnum = any (t.tgattr::int2[])
    ) as columns,
    definition.document ->> 'where' as condition,
    coalesce(definition.document ->> 'sqlstate', '25006') as sqlstate,
    coalesce(definition.document ->> 'rule', t.tgname::text) as rule
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
-- The trigger's only argument is ASCII; the catalog ends it with a zero byte.
cross join lateral (
    select pg_catalog.replace(
        pg_catalog.rtrim(pg_catalog.encode(t.tgargs, 'escape'), '0\'), '\\', '\'
    )::pg_catalog.jsonb as document
) as definition
where t.tgfoid = 'pgdetour.refuse()'::pg_catalog.regprocedure and t.tgnargs = 1;
comment on view pgdetour.restriction is
'Tables that are restricted during maintenance: which statements, for which roles, and whether for this session.';

create or replace function pgdetour.is_restricted(relation pg_catalog.regclass) returns boolean
language sql stable parallel safe set search_path = '' as $function$
    select exists (
        select from pgdetour.restriction as r where r.table_oid = relation::pg_catalog.oid and r.applies
    )
$function$;
comment on function pgdetour.is_restricted(pg_catalog.regclass) is
'Whether any statement on the table is refused to the role of this session.';

create or replace function pgdetour.is_restricted(relation pg_catalog.regclass, verb text) returns boolean
language sql stable parallel safe set search_path = '' as $function$
    select exists (
        select from pgdetour.restriction as r
        where r.table_oid = relation::pg_catalog.oid and r.applies and pg_catalog.lower(verb) = any (r.deny)
    )
$function$;
comment on function pgdetour.is_restricted(pg_catalog.regclass, text) is
'Whether insert, update, delete or truncate, of any row or column, is refused on the table to the role of this session.';

grant usage on schema pgdetour to public;
grant select on table pgdetour.restriction to public;
grant execute on function pgdetour.is_restricted(pg_catalog.regclass) to public;
grant execute on function pgdetour.is_restricted(pg_catalog.regclass, text) to public;
