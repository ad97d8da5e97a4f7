-- Triggers of the users' that are enabled in one of these ways. Those that partitions have of their root are named once.
-- $1 text[]: as pg_trigger has it, O ordinarily, R for replicas, A always. One row a trigger; the root is the topmost table of a partition, or of the table that has some.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    rn.nspname::text as root_schema,
    r.relname::text as root_table,
    t.tgname::text as trigger_name
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_class as r on r.oid = pg_catalog.pg_partition_root(c.oid)
left join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
left join pg_catalog.pg_trigger as p on p.oid = t.tgparentid
where t.tgenabled::text = any ($1)
    and not t.tgisinternal
    and p.tgenabled is distinct from t.tgenabled
    and n.nspname <> 'pgdetour'
    and t.tgname !~ '^[!~]?pgdetour'
order by schema_name, table_name, trigger_name
