-- Captured tables whose definition is other than their latest description, which only happens without our event trigger.
-- No parameters.
select d.schema_name, d.table_name
from (
    select distinct on (l.relation) l.*
    from pgdetour.description as l
    order by l.relation, l.ordinal desc
) as d
join pg_catalog.pg_class as c on c.oid = d.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where (d.schema_name, d.table_name) is distinct from (n.nspname::text, c.relname::text)
    or d.columns is distinct from (
        select coalesce(pg_catalog.jsonb_agg(
            coalesce(f.field, '{}') || pg_catalog.jsonb_build_object(
                'name', a.attname, 'type', a.atttypid::int8, 'generated', a.attgenerated <> ''
            )
            order by a.attnum
        ), '[]')
        from pg_catalog.pg_attribute as a
        left join lateral (
            select e.field from pg_catalog.jsonb_array_elements(d.columns) as e (field) where e.field ->> 'name' = a.attname
        ) as f on true
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    )
