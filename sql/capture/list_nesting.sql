-- What may change other rows of a table while a statement of it fires its triggers: row triggers of the table's own, and
-- foreign keys to itself that act. No parameters.
select n.nspname || '.' || c.relname as table_name, 'trigger "' || g.tgname || '"' as what
from pg_catalog.pg_trigger as g
join pg_catalog.pg_class as c on c.oid = g.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where not g.tgisinternal and g.tgparentid = 0 and g.tgtype & 3 = 1 and g.tgenabled in ('O', 'A')
    and g.tgname !~ '^[!~]?pgdetour_' and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
union all
select n.nspname || '.' || c.relname, 'foreign key "' || k.conname || '"'
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.contype = 'f' and k.conrelid = k.confrelid and k.conparentid = 0
    and (k.confupdtype in ('c', 'n', 'd') or k.confdeltype in ('n', 'd'))
order by 1, 2
