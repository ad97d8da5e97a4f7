-- Tables and partitions into which roles may write, by whatever way they have got that. $1 text[]: roles. One row each for a role and
-- a table.
with rights as (
    select
        r.rolname::text as role_name,
        n.nspname::text as schema_name,
        c.relname::text as table_name,
        p.may
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    join pg_catalog.pg_roles as r on r.rolname = any ($1::text[])
    cross join unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as p (may)
    where c.relkind in ('r', 'p')
        and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
        and pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
        and (
            pg_catalog.has_table_privilege(r.oid, c.oid, p.may)
            -- Granted on single columns.
            or p.may in ('INSERT', 'UPDATE') and pg_catalog.has_any_column_privilege(r.oid, c.oid, p.may)
        )
)

select
    w.schema_name,
    w.table_name,
    w.role_name,
    pg_catalog.array_agg(w.may order by w.may) as may
from rights as w
group by w.schema_name, w.table_name, w.role_name
order by w.schema_name, w.table_name, w.role_name
