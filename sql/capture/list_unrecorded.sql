-- Tables that are not what was to be recorded, apart from partitions: made since, or gone, or under the name of another one, or
-- taken out of the publication, or left out by the configuration for a while.
-- $1 text: the publication, null where triggers record.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    case when exists (
        select from pgdetour.recorded as k where (k.schema_name, k.table_name) = (n.nspname::text, c.relname::text)
    ) then 'replaced' else 'new' end as what
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
    and c.relpersistence = 'p'
    and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
    and c.oid not in (select k.relation from pgdetour.recorded as k)
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e'
    )
    -- Without a record of it nothing is known.
    and exists (select from pgdetour.recorded)
union all
select k.schema_name, k.table_name, 'dropped'
from pgdetour.recorded as k
where k.relation = k.root
    and k.relation not in (select c.oid from pg_catalog.pg_class as c)
    and pg_catalog.to_regclass(pg_catalog.format('%I.%I', k.schema_name, k.table_name)) is null
union all
select n.nspname::text, c.relname::text, 'misnamed'
from pgdetour.recorded as k
join pg_catalog.pg_class as c on c.oid = k.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.relation = k.root
    and exists (
        select from pgdetour.recorded as other
        where (other.schema_name, other.table_name) = (n.nspname::text, c.relname::text)
            and other.relation <> k.relation
            and other.relation = other.root
    )
union all
select n.nspname::text, c.relname::text, 'unpublished'
from pgdetour.recorded as k
join pg_catalog.pg_class as c on c.oid = k.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_publication as p on p.pubname = $1
where k.relation = k.root
    and not (
        p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate
        and exists (select from pg_catalog.pg_publication_rel as r where r.prpubid = p.oid and r.prrelid = c.oid)
    )
union all
select n.nspname::text, c.relname::text, 'passed over'
from pgdetour.recorded as k
join pg_catalog.pg_class as c on c.oid = k.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.relation = k.root
    -- A record that an earlier version made has no such column before it is needed.
    and (pg_catalog.to_jsonb(k) ->> 'passed_over')::boolean
order by 1, 2
