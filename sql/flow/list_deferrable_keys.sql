-- What keeps rows apart at the end of a transaction only: deferrable unique and exclusion constraints, those that partitions inherit
-- left out. No parameters. One row a constraint: its parts as they are written in its table, with the operator by which two rows meet
-- in each, and its columns where it has nothing else.
select
    c.conname::text as constraint_name,
    n.nspname::text as schema_name,
    t.relname::text as table_name,
    t.relkind = 'p' as is_partitioned,
    i.indisexclusion as is_exclusion,
    array(
        select pg_catalog.pg_get_indexdef(i.indexrelid, k.place, true)
        from pg_catalog.generate_series(1, i.indnkeyatts) as k (place)
        order by k.place
    ) as parts,
    array(
        select pg_catalog.format('operator(%I.%s)', os.nspname, o.oprname)
        from pg_catalog.generate_series(1, i.indnkeyatts) as k (place)
        join pg_catalog.pg_opclass as oc on oc.oid = i.indclass[k.place - 1]
        left join pg_catalog.pg_amop as e
            on e.amopfamily = oc.opcfamily and e.amopstrategy = 3
                and e.amoplefttype = oc.opcintype and e.amoprighttype = oc.opcintype
        join pg_catalog.pg_operator as o on o.oid = coalesce(c.conexclop[k.place], e.amopopr)
        join pg_catalog.pg_namespace as os on os.oid = o.oprnamespace
        order by k.place
    ) as operators,
    case
        when i.indexprs is null and i.indpred is null then array(
            select a.attname::text
            from pg_catalog.generate_series(1, i.indnkeyatts) as k (place)
            join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.place - 1]
            order by k.place
        )
    end as columns,
    pg_catalog.pg_get_expr(i.indpred, i.indrelid) as predicate,
    coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) as nulls_meet
from pg_catalog.pg_constraint as c
join pg_catalog.pg_class as t on t.oid = c.conrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
join pg_catalog.pg_index as i on i.indexrelid = c.conindid
where c.contype in ('p', 'u', 'x') and c.condeferrable and c.conparentid = 0
order by c.oid
