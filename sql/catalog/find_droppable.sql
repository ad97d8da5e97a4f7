-- One object that is not the system's, an extension's or ours, with its type and quoted name for DROP. No parameters.
with candidate as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::oid as classid, c.oid, c.relnamespace as namespace, 1 as rank
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't' and not c.relispartition
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype in ('a', 'i')
                and d.refobjsubid > 0
        )
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, p.oid, p.pronamespace, 2
    from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass::oid, t.oid, t.typnamespace, 3
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'r') or c.relkind = 'c'
)

select o.type as kind, o.identity
from candidate as c
join pg_catalog.pg_namespace as n on n.oid = c.namespace
cross join lateral pg_catalog.pg_identify_object(c.classid, c.oid, 0) as o
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = c.classid and d.objid = c.oid and d.deptype = 'e'
    )
order by c.rank, c.oid
limit 1
