-- What of the users' definitions older majors cannot have. $1 int4: such a major. One row for each object; what the server itself is too
-- old for is in none of its catalogs.
with relations as (
    select
        c.oid,
        n.nspname::text as schema_name,
        c.relname::text as relation_name,
        c.relkind,
        c.relpersistence,
        c.relispartition,
        c.relam,
        c.reloptions
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
        and not exists (
            select
            from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e'
        )
),

columns as (
    select
        r.schema_name,
        r.relation_name,
        a.attname::text as name,
        case
            when a.attgenerated = 'v' then 18
            -- Before 15 a scale was neither negative nor larger than the precision.
            when
                r.relkind in ('r', 'p', 'f') and a.atttypid = 'pg_catalog.numeric'::pg_catalog.regtype and a.atttypmod > 4
                and ((a.atttypmod - 4) & 2047) > (((a.atttypmod - 4) >> 16) & 65535)
                then 15
        end as since,
        case a.attgenerated when 'v' then 'a virtual generated column' else 'a numeric of such a scale' end as feature
    from relations as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
),

constraints as (
    select r.*, k.conname::text as name, k.contype, k.convalidated, k.connoinherit, k.conislocal, k.conkey, pg_catalog.to_jsonb(k) as entry
    from relations as r
    join pg_catalog.pg_constraint as k on k.conrelid = r.oid
),

found as (
    select c.since, c.schema_name, c.relation_name, c.schema_name || '.' || c.relation_name || '.' || c.name as identity, c.feature
    from columns as c
    union all
    select f.since, k.schema_name, k.relation_name, k.schema_name || '.' || k.relation_name || '.' || k.name, f.feature
    from constraints as k
    cross join lateral (
        values
        (18, 'a constraint that is NOT ENFORCED', not coalesce((k.entry ->> 'conenforced')::bool, true)),
        (18, 'a key of periods', coalesce((k.entry ->> 'conperiod')::bool, false)),
        (18, 'a NOT NULL constraint that is NOT VALID', k.contype = 'n' and not k.convalidated),
        (18, 'a NOT NULL constraint that is NO INHERIT', k.contype = 'n' and k.connoinherit),
        (
            18,
            'a NOT NULL constraint of its own on a column that is inherited',
            k.contype = 'n' and k.conislocal and not k.relispartition and exists (
                select
                from pg_catalog.pg_attribute as a
                where a.attrelid = k.oid and a.attnum = any (k.conkey) and not a.attislocal
            )
        ),
        (
            15,
            'a foreign key that sets some of its columns on delete',
            case pg_catalog.jsonb_typeof(k.entry -> 'confdelsetcols')
                when 'array' then pg_catalog.jsonb_array_length(k.entry -> 'confdelsetcols') > 0
                else false
            end
        )
    ) as f (since, feature, is_so)
    where f.is_so
    union all
    select 15, r.schema_name, r.relation_name, x.schema_name || '.' || x.relation_name, 'an index with NULLS NOT DISTINCT'
    from relations as r
    join pg_catalog.pg_index as i on i.indrelid = r.oid
    join relations as x on x.oid = i.indexrelid
    where (pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool
    union all
    select 15, r.schema_name, r.relation_name, r.schema_name || '.' || r.relation_name, 'a view with security_invoker'
    from relations as r
    where r.relkind = 'v' and exists (select from unnest(r.reloptions) as o (text) where o.text like 'security\_invoker=%')
    union all
    select 15, r.schema_name, r.relation_name, r.schema_name || '.' || r.relation_name, 'an unlogged sequence'
    from relations as r
    where r.relkind = 'S' and r.relpersistence = 'u' and not exists (
        select
        from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = r.oid and d.deptype = 'i'
    )
    union all
    select 17, r.schema_name, r.relation_name, r.schema_name || '.' || r.relation_name, 'a partitioned table with an access method'
    from relations as r
    where r.relkind = 'p' and r.relam <> 0
    union all
    select
        case c.collprovider when 'b' then 17 else 16 end,
        null,
        null,
        n.nspname || '.' || c.collname,
        case c.collprovider when 'b' then 'a collation of the built-in provider' else 'a collation with rules of its own' end
    from pg_catalog.pg_collation as c
    join pg_catalog.pg_namespace as n on n.oid = c.collnamespace
    where c.oid >= 16384 and (c.collprovider = 'b' or pg_catalog.to_jsonb(c) ->> 'collicurules' is not null)
)

select f.since, f.schema_name, f.relation_name, f.identity, f.feature
from found as f
where f.since > $1
order by f.identity, f.feature
