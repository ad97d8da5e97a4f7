-- Schemas in which some of these roles may not create, and in which our role, which is no superuser, may let them.
-- $1 text[]: roles. One row a schema; both columns are quoted, roles as a list.
select
    pg_catalog.quote_ident(n.nspname) as schema_quoted,
    pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', ' order by r.rolname) as roles_quoted
from pg_catalog.pg_namespace as n
join pg_catalog.pg_roles as me on me.rolname = current_user and not me.rolsuper
join pg_catalog.pg_roles as r on r.rolname = any ($1)
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
    and pg_catalog.pg_has_role(n.nspowner, 'USAGE')
    and not pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
group by n.nspname
order by n.nspname
