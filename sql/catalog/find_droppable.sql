-- Objects that are not the system's, an extension's or ours, with type and quoted name for DROP: the next few, since
-- dropping them takes others with them. $1 bigint: how many, null for all; $2 text[]: type and name of those to pass over, of kinds
-- that an empty database may hold
with candidate as (
    select 'pg_catalog.pg_event_trigger'::pg_catalog.regclass::oid as classid, e.oid, 0::oid as namespace, 0 as rank
    from pg_catalog.pg_event_trigger as e
    union all
    select 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relnamespace, 1
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't' and not c.relispartition
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.objsubid = 0
                and d.deptype in ('a', 'i') and d.refobjsubid > 0
        )
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, p.pronamespace, 2
    from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typnamespace, 3
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'r') or c.relkind = 'c' or t.typtype = 'b' and t.typcategory <> 'A'
    union all
    select 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid, o.oprnamespace, 4 from pg_catalog.pg_operator as o
    union all
    select 'pg_catalog.pg_opfamily'::pg_catalog.regclass, o.oid, o.opfnamespace, 4 from pg_catalog.pg_opfamily as o
    union all
    select 'pg_catalog.pg_collation'::pg_catalog.regclass, c.oid, c.collnamespace, 4 from pg_catalog.pg_collation as c
    union all
    select 'pg_catalog.pg_conversion'::pg_catalog.regclass, c.oid, c.connamespace, 4 from pg_catalog.pg_conversion as c
    union all
    select 'pg_catalog.pg_ts_config'::pg_catalog.regclass, t.oid, t.cfgnamespace, 4 from pg_catalog.pg_ts_config as t
    union all
    select 'pg_catalog.pg_ts_dict'::pg_catalog.regclass, t.oid, t.dictnamespace, 4 from pg_catalog.pg_ts_dict as t
    union all
    select 'pg_catalog.pg_ts_parser'::pg_catalog.regclass, t.oid, t.prsnamespace, 4 from pg_catalog.pg_ts_parser as t
    union all
    select 'pg_catalog.pg_ts_template'::pg_catalog.regclass, t.oid, t.tmplnamespace, 4 from pg_catalog.pg_ts_template as t
    union all
    select 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, s.oid, 0, 5 from pg_catalog.pg_foreign_server as s
    union all
    select 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, f.oid, 0, 6
    from pg_catalog.pg_foreign_data_wrapper as f
    union all
    select 'pg_catalog.pg_cast'::pg_catalog.regclass, c.oid, 0, 7 from pg_catalog.pg_cast as c
    union all
    select 'pg_catalog.pg_transform'::pg_catalog.regclass, t.oid, 0, 7 from pg_catalog.pg_transform as t
    union all
    select 'pg_catalog.pg_language'::pg_catalog.regclass, l.oid, 0, 8 from pg_catalog.pg_language as l
    union all
    select 'pg_catalog.pg_am'::pg_catalog.regclass, a.oid, 0, 8 from pg_catalog.pg_am as a
),

next as (
    select c.classid, c.oid, c.rank
    from candidate as c
    left join pg_catalog.pg_namespace as n on n.oid = c.namespace
    where c.oid >= 16384
        and coalesce(n.nspname, '') not in ('pg_catalog', 'information_schema', 'pgdetour')
        and coalesce(n.nspname, '') !~ '^pg_(toast|temp)'
        and not exists (
            select from pg_catalog.pg_event_trigger as e
            where c.rank = 0 and e.oid = c.oid and e.evtname like 'pgdetour%'
        )
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = c.classid and d.objid = c.oid and (d.deptype = 'e' or d.deptype = 'i' and c.rank > 1)
        )
        and (
            c.rank in (1, 2, 3)
            or (select i.type || ' ' || i.identity from pg_catalog.pg_identify_object(c.classid, c.oid, 0) as i) <> all ($2)
        )
    order by c.rank, c.oid
    limit $1
)

select
    c.classid,
    c.oid,
    o.type || ' ' || o.identity as name,
    pg_catalog.replace(o.type, '-', ' ') as kind,
    -- An aggregate without arguments, and before 16 a transform, is identified in other words than it is dropped in.
    case o.type
        when 'aggregate' then pg_catalog.regexp_replace(o.identity, '\(\)$', '(*)')
        when 'transform' then pg_catalog.replace(o.identity, ' on language ', ' language ')
        else o.identity
    end as identity
from next as c
cross join lateral pg_catalog.pg_identify_object(c.classid, c.oid, 0) as o
order by c.rank, c.oid
