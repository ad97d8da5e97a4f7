-- Primary keys and unique constraints whose index can be built before the constraint is made of it: not those
-- of partitioned tables, nor those without overlaps, nor primary keys of columns that are NOT NULL by inheritance alone: from
-- PostgreSQL 18 on, where that is a constraint, "using index" would make it the table's own. No parameters.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    k.conname::text as constraint_name,
    case k.contype when 'p' then 'primary key' else 'unique' end as kind,
    pg_catalog.pg_get_indexdef(k.conindid) as definition,
    case
        when k.condeferrable and k.condeferred then 'deferrable initially deferred'
        when k.condeferrable then 'deferrable'
        else ''
    end as deferral
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.contype in ('p', 'u')
    and c.relkind = 'r'
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and not coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::boolean, false)
    and not (
        k.contype = 'p'
        and exists (
            select from pg_catalog.pg_constraint as m
            where m.conrelid = k.conrelid and m.contype = 'n' and not m.conislocal and m.conkey <@ k.conkey
        )
    )
