-- Moves what was observed into its sums. No parameters.
with gone as (
    delete from pgdetour.observation
    returning table_oid, role_name, application_name, verb, happened_at
)
insert into pgdetour.observed as o (table_oid, role_name, application_name, verb, statements, first_at, last_at)
select
    g.table_oid, g.role_name, g.application_name, g.verb, pg_catalog.count(*), pg_catalog.min(g.happened_at),
    pg_catalog.max(g.happened_at)
from gone as g
group by g.table_oid, g.role_name, g.application_name, g.verb
on conflict (table_oid, role_name, application_name, verb) do update
set statements = o.statements + excluded.statements,
    first_at = least(o.first_at, excluded.first_at),
    last_at = greatest(o.last_at, excluded.last_at)
