-- Collations by which indexes and partitioned tables of users order text. No parameters. One row each: who compares (c is
-- libc, i is ICU, b the server), by which locale, the version that the catalog has of it, and what it orders.
with ordered as (
    select k.oid as collation, i.indexrelid as relation, i.indrelid as owner
    from pg_catalog.pg_index as i
    cross join lateral unnest(i.indcollation::oid[]) as k (oid)
    union all
    select k.oid as collation, p.partrelid, p.partrelid
    from pg_catalog.pg_partitioned_table as p
    cross join lateral unnest(p.partcollation::oid[]) as k (oid)
),

known as (
    select
        c.oid,
        c.collprovider::text as provider,
        coalesce(
            pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale', c.collcollate::text
        ) as locale,
        c.collversion as recorded
    from pg_catalog.pg_collation as c
    where c.collprovider <> 'd'
    union all
    select
        'pg_catalog."default"'::pg_catalog.regcollation::oid,
        coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'),
        coalesce(
            pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', d.datcollate::text
        ),
        pg_catalog.to_jsonb(d) ->> 'datcollversion'
    from pg_catalog.pg_database as d
    where d.datname = pg_catalog.current_database()
)

select
    k.provider,
    k.locale,
    max(k.recorded) as recorded,
    pg_catalog.array_agg(distinct o.relation::pg_catalog.regclass::text) as relations
from ordered as o
join known as k on k.oid = o.collation
join pg_catalog.pg_class as c on c.oid = o.owner
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and n.nspname !~ '^pg_(toast|temp)'
group by k.provider, k.locale
order by k.provider, k.locale
