-- Tables that are partitioned by the hash of an enum, or of an array of one, which goes by the oids of its values.
-- $1 oid[]: tables. An operator class that somebody has made for the purpose is left to him.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name
from pg_catalog.pg_partitioned_table as p
join pg_catalog.pg_class as c on c.oid = p.partrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where p.partrelid = any($1)
    and p.partstrat = 'h'
    and exists (
        select
        from unnest(p.partattrs::int2[], p.partclass::oid[]) as k (attnum, opclass)
        join pg_catalog.pg_opclass as o on o.oid = k.opclass
        left join pg_catalog.pg_attribute as a on a.attrelid = p.partrelid and a.attnum = k.attnum
        left join pg_catalog.pg_type as t on t.oid = a.atttypid
        left join pg_catalog.pg_type as e on e.oid = t.typelem
        where o.opcintype = 'pg_catalog.anyenum'::pg_catalog.regtype
            or o.opcintype = 'pg_catalog.anyarray'::pg_catalog.regtype and e.typtype = 'e'
    )
order by schema_name, table_name
