-- What keeps rows of a table apart: constraints as they are added to a table, and unique indexes as what follows "on table".
-- $1 text: schema; $2 text: table
select
    coalesce(k.conname, x.relname)::text as index_name,
    k.oid is not null as is_constraint,
    case
        when k.oid is not null then pg_catalog.pg_get_constraintdef(k.oid)
        else pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid), '^.*? USING ', 'using ')
    end as definition
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_index as i on i.indrelid = c.oid
join pg_catalog.pg_class as x on x.oid = i.indexrelid
left join pg_catalog.pg_constraint as k on k.conindid = i.indexrelid and k.conrelid = c.oid and k.contype in ('p', 'u', 'x')
where n.nspname = $1 and c.relname = $2 and i.indisvalid and (i.indisunique or i.indisexclusion)
order by i.indexrelid
