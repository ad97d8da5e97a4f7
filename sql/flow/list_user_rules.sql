-- Rules of the users' on tables that are enabled in one of these ways.
-- $1 text[]: as pg_rewrite has it, O ordinarily, R for replicas, A always. One row a rule.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    r.rulename::text as rule_name
from pg_catalog.pg_rewrite as r
join pg_catalog.pg_class as c on c.oid = r.ev_class
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and r.ev_enabled::text = any ($1)
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
order by schema_name, table_name, rule_name
