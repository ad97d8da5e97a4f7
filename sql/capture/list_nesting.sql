-- What may give a row a key that a statement of the table takes from another one, while that fires its triggers: row triggers of the
-- table's own, those that fire before as far as their text writes, and foreign keys to itself that act on columns of a key.
-- No parameters.
select n.nspname || '.' || c.relname as table_name, 'trigger "' || g.tgname || '"' as what
from pg_catalog.pg_trigger as g
join pg_catalog.pg_class as c on c.oid = g.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_proc as p on p.oid = g.tgfoid
where not g.tgisinternal and g.tgparentid = 0 and g.tgtype & 1 = 1 and g.tgenabled in ('O', 'A')
    and (g.tgtype & 2 = 0 or p.prosrc ~* '\m((insert|merge)\s+into|update\s+\S+\s+(as\s+)?(\w+\s+)?set|execute)\M')
    and c.relkind in ('r', 'p')
    and g.tgname !~ '^[!~]?pgdetour_' and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
union all
select n.nspname || '.' || c.relname, 'foreign key "' || k.conname || '"'
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.contype = 'f' and k.conrelid = k.confrelid and k.conparentid = 0
    and (k.confupdtype in ('c', 'n', 'd') or k.confdeltype in ('n', 'd'))
    and exists (
        select from pg_catalog.pg_index as i where i.indrelid = c.oid and i.indisunique and i.indkey::int2[] && k.conkey
    )
order by 1, 2
