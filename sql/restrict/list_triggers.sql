-- The triggers that call one function of ours; inherited are those that partitions have from a table above them.
-- $1 text: refuse or observe. One row a trigger; definition is the first argument, in ASCII with backslashes doubled.
select
    t.tgrelid as table_oid,
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    t.tgname::text as trigger_name,
    pg_catalog.encode(
        pg_catalog.substring(t.tgargs, 1, position('\x00'::bytea in t.tgargs) - 1), 'escape'
    ) as definition,
    t.tgtype::int4 as type,
    array(
        select a.attname::text
        from pg_catalog.pg_attribute as a
        where a.attrelid = t.tgrelid and a.attnum = any (t.tgattr::int2[])
    ) as columns,
    t.tgenabled = 'A' as always,
    t.tgparentid <> 0 as inherited
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
join pg_catalog.pg_namespace as pn on pn.oid = p.pronamespace
where pn.nspname = 'pgdetour' and p.proname = $1
order by schema_name, table_name, trigger_name
