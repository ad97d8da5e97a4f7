-- Every object that a user made, an extension's and ours left out, as kind and identity: what has to be accounted for.
-- No parameters. One row an object, with the table or view that it belongs to, if it does, and the table that a foreign
-- key refers to. Roles and tablespaces belong to the cluster and are not listed.
with object as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::oid as class, c.oid, c.oid as relation, 0::oid as referenced
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, i.indrelid, 0
    from pg_catalog.pg_index as i
    union all
    select 'pg_catalog.pg_class'::pg_catalog.regclass, s.seqrelid, coalesce(d.refobjid, 0), 0
    from pg_catalog.pg_sequence as s
    left join pg_catalog.pg_depend as d
        on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = s.seqrelid
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i')
    union all
    select 'pg_catalog.pg_constraint'::pg_catalog.regclass, c.oid, c.conrelid, c.confrelid
    from pg_catalog.pg_constraint as c
    where c.contype in ('c', 'f', 'p', 'u', 'x')
    union all
    select 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, t.tgrelid, 0
    from pg_catalog.pg_trigger as t
    where not t.tgisinternal
    union all
    select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, r.ev_class, 0
    from pg_catalog.pg_rewrite as r
    where r.rulename <> '_RETURN'
    union all
    select 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, p.polrelid, 0 from pg_catalog.pg_policy as p
    union all
    select 'pg_catalog.pg_attrdef'::pg_catalog.regclass, a.oid, a.adrelid, 0 from pg_catalog.pg_attrdef as a
    union all
    select 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, s.stxrelid, 0 from pg_catalog.pg_statistic_ext as s
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, 0, 0
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where t.typtype in ('d', 'e', 'r') or c.relkind = 'c' or t.typtype = 'b' and t.typcategory <> 'A'
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 0, 0 from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, 0, 0 from pg_catalog.pg_namespace as n
    union all
    select 'pg_catalog.pg_extension'::pg_catalog.regclass, e.oid, 0, 0 from pg_catalog.pg_extension as e
    union all
    select 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, f.oid, 0, 0 from pg_catalog.pg_foreign_data_wrapper as f
    union all
    select 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, s.oid, 0, 0 from pg_catalog.pg_foreign_server as s
    union all
    select 'pg_catalog.pg_user_mapping'::pg_catalog.regclass, u.umid, 0, 0 from pg_catalog.pg_user_mappings as u
    union all
    select 'pg_catalog.pg_cast'::pg_catalog.regclass, c.oid, 0, 0 from pg_catalog.pg_cast as c
    union all
    select 'pg_catalog.pg_transform'::pg_catalog.regclass, t.oid, 0, 0 from pg_catalog.pg_transform as t
    union all
    select 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid, 0, 0 from pg_catalog.pg_operator as o
    union all
    select 'pg_catalog.pg_opclass'::pg_catalog.regclass, o.oid, 0, 0 from pg_catalog.pg_opclass as o
    union all
    select 'pg_catalog.pg_opfamily'::pg_catalog.regclass, o.oid, 0, 0 from pg_catalog.pg_opfamily as o
    union all
    select 'pg_catalog.pg_ts_config'::pg_catalog.regclass, t.oid, 0, 0 from pg_catalog.pg_ts_config as t
    union all
    select 'pg_catalog.pg_ts_dict'::pg_catalog.regclass, t.oid, 0, 0 from pg_catalog.pg_ts_dict as t
    union all
    select 'pg_catalog.pg_ts_parser'::pg_catalog.regclass, t.oid, 0, 0 from pg_catalog.pg_ts_parser as t
    union all
    select 'pg_catalog.pg_ts_template'::pg_catalog.regclass, t.oid, 0, 0 from pg_catalog.pg_ts_template as t
    union all
    select 'pg_catalog.pg_collation'::pg_catalog.regclass, c.oid, 0, 0 from pg_catalog.pg_collation as c
    union all
    select 'pg_catalog.pg_conversion'::pg_catalog.regclass, c.oid, 0, 0 from pg_catalog.pg_conversion as c
    union all
    select 'pg_catalog.pg_language'::pg_catalog.regclass, l.oid, 0, 0 from pg_catalog.pg_language as l
    union all
    select 'pg_catalog.pg_am'::pg_catalog.regclass, a.oid, 0, 0 from pg_catalog.pg_am as a
    union all
    select 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, e.oid, 0, 0 from pg_catalog.pg_event_trigger as e
    union all
    select 'pg_catalog.pg_default_acl'::pg_catalog.regclass, d.oid, 0, 0 from pg_catalog.pg_default_acl as d
    union all
    select 'pg_catalog.pg_publication'::pg_catalog.regclass, p.oid, 0, 0 from pg_catalog.pg_publication as p
    union all
    select 'pg_catalog.pg_subscription'::pg_catalog.regclass, s.oid, 0, 0
    from pg_catalog.pg_subscription as s
    join pg_catalog.pg_database as d on d.oid = s.subdbid and d.datname = pg_catalog.current_database()
    union all
    select 'pg_catalog.pg_largeobject'::pg_catalog.regclass, l.oid, 0, 0 from pg_catalog.pg_largeobject_metadata as l
),

owned as (
    select o.class, o.oid, o.relation, o.referenced
    from object as o
    -- The number of a large object is the users' to choose.
    where (o.oid >= 16384 or o.class = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
        and not exists (
            select from pg_catalog.pg_depend as d
            where d.classid = o.class and d.objid = o.oid
                -- Functions and casts come with a range type, too.
                and (d.deptype = 'e' or d.deptype = 'i' and o.class in (
                    'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_cast'::pg_catalog.regclass
                ))
        )
),

identified as (
    select
        o.class, o.oid, o.relation, o.referenced, i.type, i.schema, i.name,
        -- Since 16 a transform has another identity.
        case i.type
            when 'transform' then pg_catalog.replace(i.identity, ' on language ', ' language ')
            else i.identity
        end as identity
    from owned as o
    cross join lateral pg_catalog.pg_identify_object(o.class, o.oid, 0) as i
    where i.identity is not null
        and coalesce(i.schema, '') !~ '^(pg_|information_schema$|pgdetour$)'
        and coalesce(i.name, i.identity) !~ '^(pg_|pgdetour)'
        and i.identity !~ '(^|\s)(pgdetour|pg_toast\w*|pg_temp\w*|pg_catalog)\.'
),

built_in as (
    select
        'pg_catalog.pg_class'::pg_catalog.regclass as class, c.oid, c.relacl as acl,
        pg_catalog.acldefault('r', c.relowner) as default_acl
    from pg_catalog.pg_class as c
    union all
    select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, p.proacl, pg_catalog.acldefault('f', p.proowner)
    from pg_catalog.pg_proc as p
    union all
    select 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, n.nspacl, pg_catalog.acldefault('n', n.nspowner)
    from pg_catalog.pg_namespace as n
    union all
    select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typacl, pg_catalog.acldefault('T', t.typowner)
    from pg_catalog.pg_type as t
    union all
    select 'pg_catalog.pg_language'::pg_catalog.regclass, l.oid, l.lanacl, pg_catalog.acldefault('l', l.lanowner)
    from pg_catalog.pg_language as l
),

-- Privileges on the system's objects that they had not from the beginning.
granted_on_built_in as (
    select
        b.class,
        b.oid,
        x.privilege_type,
        case x.grantee when 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(x.grantee)::text end as grantee
    from built_in as b
    left join pg_catalog.pg_init_privs as p on p.classoid = b.class and p.objoid = b.oid and p.objsubid = 0
    cross join lateral pg_catalog.aclexplode(b.acl) as x
    where b.oid < 16384 and b.acl is not null and x.grantee <> x.grantor
        and not exists (
            select from pg_catalog.aclexplode(coalesce(p.initprivs, b.default_acl)) as y
            where y.grantee = x.grantee and y.privilege_type = x.privilege_type
        )
),

-- How privileges on the database itself differ from those of a new one; our own role's left out.
database_grant as (
    select
        pg_catalog.format(
            '%s%s to %s',
            case when bool_or(a.is_now) then '' else 'no ' end,
            x.privilege_type,
            case x.grantee when 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(x.grantee)::text end
        ) as identity
    from pg_catalog.pg_database as d
    cross join lateral (
        values (d.datacl, true), (pg_catalog.acldefault('d', d.datdba), false)
    ) as a (acl, is_now)
    cross join lateral pg_catalog.aclexplode(a.acl) as x
    where d.datname = pg_catalog.current_database() and d.datacl is not null
        and x.grantee not in (d.datdba, (select r.oid from pg_catalog.pg_roles as r where r.rolname = current_user))
    group by x.grantee, x.privilege_type
    having pg_catalog.count(distinct a.is_now) = 1
),

counted as (
    select i.type as kind, i.identity, i.relation, i.referenced from identified as i
    union all
    select 'comment', pg_catalog.format('on %s %s', i.type, i.identity), i.relation, i.referenced
    from identified as i
    join pg_catalog.pg_description as d on d.classoid = i.class and d.objoid = i.oid and d.objsubid = 0
    union all
    select 'comment', pg_catalog.format('on column %s.%I', i.identity, a.attname), i.relation, 0
    from identified as i
    join pg_catalog.pg_description as d on d.classoid = i.class and d.objoid = i.oid and d.objsubid > 0
    join pg_catalog.pg_attribute as a on a.attrelid = i.oid and a.attnum = d.objsubid
    where i.class = 'pg_catalog.pg_class'::pg_catalog.regclass
    union all
    select
        'grant',
        pg_catalog.format(
            '%s on %s %s to %s', x.privilege_type, i.type, i.identity,
            case x.grantee when 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(x.grantee)::text end
        ),
        i.relation,
        0
    from identified as i
    cross join lateral (
        select c.relacl as acl from pg_catalog.pg_class as c
        where i.class = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = i.oid
        union all
        select a.attacl from pg_catalog.pg_attribute as a
        where i.class = 'pg_catalog.pg_class'::pg_catalog.regclass and a.attrelid = i.oid and a.attacl is not null
        union all
        select p.proacl from pg_catalog.pg_proc as p
        where i.class = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = i.oid
        union all
        select n.nspacl from pg_catalog.pg_namespace as n
        where i.class = 'pg_catalog.pg_namespace'::pg_catalog.regclass and n.oid = i.oid
        union all
        select t.typacl from pg_catalog.pg_type as t
        where i.class = 'pg_catalog.pg_type'::pg_catalog.regclass and t.oid = i.oid
        union all
        select l.lanacl from pg_catalog.pg_language as l
        where i.class = 'pg_catalog.pg_language'::pg_catalog.regclass and l.oid = i.oid
        union all
        select f.fdwacl from pg_catalog.pg_foreign_data_wrapper as f
        where i.class = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass and f.oid = i.oid
        union all
        select s.srvacl from pg_catalog.pg_foreign_server as s
        where i.class = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass and s.oid = i.oid
    ) as a
    cross join lateral pg_catalog.aclexplode(a.acl) as x
    where x.grantee <> x.grantor
    union all
    select
        'grant',
        pg_catalog.format('%s on %s %s to %s', b.privilege_type, i.type, i.identity, b.grantee),
        0,
        0
    from granted_on_built_in as b
    cross join lateral pg_catalog.pg_identify_object(b.class, b.oid, 0) as i
    where i.identity !~ '^information_schema(\.|$)'
    union all
    select 'database grant', g.identity, 0, 0 from database_grant as g
    union all
    select
        'database setting',
        pg_catalog.format(
            '%s%s', case s.setrole when 0 then '' else pg_catalog.pg_get_userbyid(s.setrole)::text || ': ' end, c.setting
        ),
        0,
        0
    from pg_catalog.pg_db_role_setting as s
    join pg_catalog.pg_database as d on d.oid = s.setdatabase and d.datname = pg_catalog.current_database()
    cross join lateral unnest(s.setconfig) as c (setting)
    union all
    select
        'role setting',
        pg_catalog.format(
            '%s: %s', case s.setrole when 0 then 'all' else pg_catalog.pg_get_userbyid(s.setrole)::text end, c.setting
        ),
        0,
        0
    from pg_catalog.pg_db_role_setting as s
    cross join lateral unnest(s.setconfig) as c (setting)
    where s.setdatabase = 0
    union all
    select 'prepared transaction', p.gid, 0, 0
    from pg_catalog.pg_prepared_xacts as p
    where p.database = pg_catalog.current_database()
    union all
    select 'extension table', c.oid::pg_catalog.regclass::text, 0, 0
    from pg_catalog.pg_extension as e
    cross join lateral unnest(e.extconfig) as x (relation)
    join pg_catalog.pg_class as c on c.oid = x.relation and c.relkind in ('r', 'p')
    union all
    select 'unlogged table', c.oid::pg_catalog.regclass::text, c.oid, 0
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence = 'u' and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
        and n.nspname !~ '^pg_(toast|temp)'
    union all
    select 'trigger that always fires', pg_catalog.format('%I on %s', t.tgname, t.tgrelid::pg_catalog.regclass), t.tgrelid, 0
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_class as c on c.oid = t.tgrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where t.tgenabled in ('A', 'R') and not t.tgisinternal and n.nspname <> 'pgdetour' and t.tgname !~ '^[!~]?pgdetour'
)

select distinct
    c.kind,
    c.identity,
    n.nspname::text as relation_schema,
    r.relname::text as relation_name,
    fn.nspname::text as referenced_schema,
    f.relname::text as referenced_name
from counted as c
left join pg_catalog.pg_class as r on r.oid = c.relation
left join pg_catalog.pg_namespace as n on n.oid = r.relnamespace
left join pg_catalog.pg_class as f on f.oid = c.referenced
left join pg_catalog.pg_namespace as fn on fn.oid = f.relnamespace
order by c.kind, c.identity
