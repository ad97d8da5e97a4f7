-- What cannot be without relations that are left out, to any depth. What belongs to one of them is not listed, nor foreign keys and
-- partitions. $1 oid[]: the relations. kind is view, function, rule or trigger, of which tags are the names that pg_dump
-- gives the object, its comment and its privileges, without quotes, or else what stays and lacks something.
with recursive lost as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::oid as classid, r.oid as objid
    from unnest($1::oid[]) as r (oid)
    union
    select
        case when w.oid is null then d.classid else 'pg_catalog.pg_class'::pg_catalog.regclass end,
        case when w.oid is null then d.objid else w.ev_class end
    from lost as l
    join pg_catalog.pg_depend as d on d.refclassid = l.classid and d.refobjid = l.objid
    left join pg_catalog.pg_rewrite as w
        on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and w.oid = d.objid and w.rulename = '_RETURN'
    left join pg_catalog.pg_class as c
        on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.objid and c.relkind = 'S'
    where w.oid is not null
        or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        -- Its row type, the array of that, and sequences of its columns.
        or d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.deptype = 'i'
        or c.oid is not null and d.deptype in ('a', 'i')
),

dependent as (
    select
        d.classid,
        d.objid,
        pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) as identity,
        pg_catalog.pg_describe_object(l.classid, l.objid, 0) as needs,
        -- The table or view that it is part of.
        coalesce(w.ev_class, p.polrelid, a.adrelid, k.conrelid, t.tgrelid, s.stxrelid, i.indrelid, c.oid) as relation,
        w.rulename,
        t.tgname,
        f.pronamespace,
        case f.prokind when 'p' then 'PROCEDURE' when 'a' then 'AGGREGATE' else 'FUNCTION' end as routine,
        case f.prokind when 'p' then 'PROCEDURE ' else 'FUNCTION ' end || f.proname
        || '(' || pg_catalog.pg_get_function_identity_arguments(f.oid) || ')' as granted,
        f.proname || '(' || case
            when f.prokind = 'a' and f.pronargs = 0 then '*' else pg_catalog.oidvectortypes(f.proargtypes)
        end || ')' as signature
    from lost as l
    join pg_catalog.pg_depend as d on d.refclassid = l.classid and d.refobjid = l.objid and d.deptype in ('n', 'a', 'i')
    left join pg_catalog.pg_rewrite as w on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and w.oid = d.objid
    left join pg_catalog.pg_policy as p on d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and p.oid = d.objid
    left join pg_catalog.pg_attrdef as a on d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and a.oid = d.objid
    left join pg_catalog.pg_constraint as k
        on d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and k.oid = d.objid
    left join pg_catalog.pg_trigger as t on d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and t.oid = d.objid
    left join pg_catalog.pg_statistic_ext as s
        on d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass and s.oid = d.objid
    left join pg_catalog.pg_class as c on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.objid
    left join pg_catalog.pg_index as i on i.indexrelid = c.oid
    left join pg_catalog.pg_proc as f on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and f.oid = d.objid
    where d.classid not in (
            'pg_catalog.pg_publication_rel'::pg_catalog.regclass, 'pg_catalog.pg_subscription_rel'::pg_catalog.regclass
        )
        and k.contype is distinct from 'f' and c.relispartition is not true and c.relkind is distinct from 't'
        and t.tgisinternal is not true and coalesce(t.tgname, '') !~ '^[!~]?pgdetour'
)

select
    'view' as kind,
    n.nspname::text as schema_name,
    array[c.relname::text] as tags,
    '' as identity,
    '' as needs
from lost as l
join pg_catalog.pg_class as c on c.oid = l.objid and c.relkind in ('v', 'm')
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where l.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
union all
select distinct on (d.classid, d.objid, d.identity)
    case
        when d.signature is not null then 'function'
        when d.rulename is not null then 'rule'
        when d.tgname is not null then 'trigger'
        else 'other'
    end,
    coalesce(n.nspname::text, ''),
    case
        when d.signature is not null
            then array[d.signature, d.routine || ' ' || d.signature, pg_catalog.replace(d.granted, '"', '')]
        when d.rulename is not null then array[c.relname || ' ' || d.rulename, 'RULE ' || d.rulename || ' ON ' || c.relname]
        when d.tgname is not null then array[c.relname || ' ' || d.tgname, 'TRIGGER ' || d.tgname || ' ON ' || c.relname]
    end,
    d.identity,
    d.needs
from dependent as d
left join pg_catalog.pg_class as c on c.oid = d.relation
left join pg_catalog.pg_namespace as n on n.oid = coalesce(d.pronamespace, c.relnamespace)
where (d.signature is not null or (d.classid, d.objid) not in (select l.classid, l.objid from lost as l))
    and not exists (
        select from lost as l
        where l.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and l.objid = d.relation
    )
