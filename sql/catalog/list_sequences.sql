-- Sequences that are not the system's, an extension's or ours. No parameters.
select
    s.seqrelid as oid,
    n.nspname::text as schema_name,
    c.relname::text as sequence_name,
    s.seqincrement as increment,
    s.seqmin as minimum,
    s.seqmax as maximum,
    s.seqcycle as cycles,
    pg_catalog.pg_get_userbyid(c.relowner)::text as belongs_to,
    pg_catalog.has_sequence_privilege(c.oid, 'UPDATE') as settable,
    owner.schema_name as owner_schema,
    owner.table_name as owner_table,
    owner.column_name as owner_column,
    coalesce(owner.identity, false) as identity
from pg_catalog.pg_sequence as s
join pg_catalog.pg_class as c on c.oid = s.seqrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join lateral (
    select
        tn.nspname::text as schema_name,
        t.relname::text as table_name,
        a.attname::text as column_name,
        d.deptype = 'i' as identity
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_class as t on t.oid = d.refobjid
    join pg_catalog.pg_namespace as tn on tn.oid = t.relnamespace
    join pg_catalog.pg_attribute as a on a.attrelid = t.oid and a.attnum = d.refobjsubid
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.objid = s.seqrelid
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        and d.deptype in ('a', 'i')
    limit 1
) as owner on true
where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and c.relpersistence <> 't'
    and not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = s.seqrelid and d.deptype = 'e'
    )
order by n.nspname, c.relname
