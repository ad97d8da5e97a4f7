-- What users have made beside the columns of tables, with hashes of how it is defined: what has to be there wherever the application
-- works. The system's, extensions' and ours are left out, and what comes with something else: indexes of constraints, clones of a
-- partitioned table's triggers, sequences of identity columns.
-- $1 text[]: roles; used is what one of them may use. definition is the same on every server that has the object, shown is in
-- the words of the server's major version. $2 text: role of ours that policies may be for, too; null for none.
with of_extensions as (
    select d.classid, d.objid from pg_catalog.pg_depend as d where d.deptype = 'e'
),

roles as (
    select r.oid from pg_catalog.pg_roles as r where r.rolname = any ($1::text[])
),

schemas as (
    select
        n.oid,
        n.nspname,
        exists (select from roles as r where pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')) as open
    from pg_catalog.pg_namespace as n
    where n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour') and n.nspname !~ '^pg_(toast|temp)'
        and (select pg_catalog.count(*) from of_extensions as e
            where e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and e.objid = n.oid) = 0
),

classes as (
    select c.*, s.nspname, s.open
    from pg_catalog.pg_class as c
    join schemas as s on s.oid = c.relnamespace
    left join of_extensions as e on e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and e.objid = c.oid
    where e.objid is null
),

relations as (
    select c.* from classes as c where c.relkind in ('r', 'p', 'f', 'v', 'm')
),

found as (
    select
        'schema' as kind,
        pg_catalog.quote_ident(s.nspname) as identity,
        0::oid as relation,
        0::oid as referenced,
        s.open as used,
        '' as definition,
        '' as shown
    from schemas as s
    union all
    select
        case c.relkind
            when 'v' then 'view'
            when 'm' then 'materialized view'
            when 'f' then 'foreign table'
            else 'table'
        end,
        pg_catalog.format('%I.%I', c.nspname, c.relname),
        c.oid,
        0,
        c.open and exists (
            select from roles as r
            where pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
        ),
        '',
        case when c.relkind in ('v', 'm') then pg_catalog.pg_get_viewdef(c.oid) else '' end
    from relations as c
    union all
    select
        'sequence',
        pg_catalog.format('%I.%I', c.nspname, c.relname),
        coalesce(d.refobjid, 0),
        0,
        c.open and exists (
            select from roles as r where pg_catalog.has_sequence_privilege(r.oid, c.oid, 'USAGE, SELECT, UPDATE')
        ),
        pg_catalog.concat_ws(
            ' ', pg_catalog.format_type(q.seqtypid, null), q.seqincrement, q.seqmin, q.seqmax, q.seqcycle
        ),
        ''
    from pg_catalog.pg_sequence as q
    join classes as c on c.oid = q.seqrelid
    left join pg_catalog.pg_depend as d
        on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid
        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i')
    where d.deptype is distinct from 'i'
    union all
    select
        case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end,
        pg_catalog.format('%I.%I(%s)', s.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)),
        0,
        0,
        s.open and p.prorettype not in ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
            -- Not as everybody may: that is the default.
            and exists (
                select from roles as r
                cross join lateral pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) as x
                where x.grantee <> 0 and x.privilege_type = 'EXECUTE' and pg_catalog.pg_has_role(r.oid, x.grantee, 'USAGE')
            ),
        pg_catalog.concat_ws(
            ' ', l.lanname, pg_catalog.format_type(p.prorettype, null), p.proretset, p.prosecdef, p.proisstrict, p.provolatile,
            p.proconfig, p.prosrc
        ),
        pg_catalog.pg_get_function_sqlbody(p.oid)
    from pg_catalog.pg_proc as p
    join schemas as s on s.oid = p.pronamespace
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where not exists (
        select from pg_catalog.pg_depend as d
        where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype in ('e', 'i')
    )
    union all
    select
        case t.typtype when 'd' then 'domain' else 'type' end,
        pg_catalog.format('%I.%I', s.nspname, t.typname),
        0,
        0,
        s.open and exists (
            select from roles as r
            cross join lateral pg_catalog.aclexplode(coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))) as x
            where x.grantee <> 0 and x.privilege_type = 'USAGE' and pg_catalog.pg_has_role(r.oid, x.grantee, 'USAGE')
        ),
        pg_catalog.concat_ws(
            ' ',
            case when t.typtype = 'd' then pg_catalog.format_type(t.typbasetype, t.typtypmod) end,
            t.typnotnull,
            (
                select pg_catalog.string_agg(pg_catalog.quote_literal(v.enumlabel), ', ' order by v.enumsortorder)
                from pg_catalog.pg_enum as v where v.enumtypid = t.oid
            ),
            (
                select pg_catalog.string_agg(
                    pg_catalog.format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum
                )
                from pg_catalog.pg_attribute as a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
            ),
            (
                select pg_catalog.format_type(r.rngsubtype, null) from pg_catalog.pg_range as r where r.rngtypid = t.oid
            )
        ),
        pg_catalog.concat_ws(
            ' ',
            t.typdefault,
            (
                select pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ', ' order by k.conname)
                from pg_catalog.pg_constraint as k where k.contypid = t.oid and k.contype = 'c'
            )
        )
    from pg_catalog.pg_type as t
    join schemas as s on s.oid = t.typnamespace
    left join of_extensions as e on e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and e.objid = t.oid
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where e.objid is null and (t.typtype in ('d', 'e', 'r') or c.relkind = 'c')
    union all
    select
        case when i.indisunique then 'unique index' else 'index' end,
        pg_catalog.format('%I.%I', x.nspname, x.relname),
        i.indrelid,
        0,
        false,
        '',
        pg_catalog.pg_get_indexdef(x.oid)
    from pg_catalog.pg_index as i
    join classes as x on x.oid = i.indexrelid
    left join pg_catalog.pg_constraint as k on k.conindid = x.oid and k.contype in ('p', 'u', 'x')
    where k.oid is null and i.indisvalid and not x.relispartition
    union all
    select
        'constraint',
        pg_catalog.format('%I on %I.%I', k.conname, c.nspname, c.relname),
        c.oid,
        k.confrelid,
        false,
        '',
        pg_catalog.pg_get_constraintdef(k.oid)
    from pg_catalog.pg_constraint as k
    join relations as c on c.oid = k.conrelid
    where k.contype in ('c', 'f', 'p', 'u', 'x') and k.conislocal and k.conparentid = 0
    union all
    select
        'default',
        pg_catalog.format('%I of %I.%I', a.attname, c.nspname, c.relname),
        c.oid,
        0,
        false,
        '',
        pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    from pg_catalog.pg_attrdef as d
    join relations as c on c.oid = d.adrelid
    join pg_catalog.pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
    where a.attgenerated = '' and not c.relispartition
    union all
    select
        'trigger',
        pg_catalog.format('%I on %I.%I', t.tgname, c.nspname, c.relname),
        c.oid,
        0,
        false,
        -- One that the mirror would fire may be disabled on the target until traffic is there.
        case t.tgenabled when 'D' then 'O' else t.tgenabled::text end,
        pg_catalog.pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger as t
    join relations as c on c.oid = t.tgrelid
    where not t.tgisinternal and t.tgparentid = 0 and t.tgname !~ '^[!~]?pgdetour'
    union all
    select
        'rule',
        pg_catalog.format('%I on %I.%I', w.rulename, c.nspname, c.relname),
        c.oid,
        0,
        false,
        w.ev_enabled::text,
        pg_catalog.pg_get_ruledef(w.oid)
    from pg_catalog.pg_rewrite as w
    join relations as c on c.oid = w.ev_class
    where w.rulename <> '_RETURN'
    union all
    select
        'row security',
        pg_catalog.format('%I.%I', c.nspname, c.relname),
        c.oid,
        0,
        true,
        c.relforcerowsecurity::text,
        ''
    from relations as c
    where c.relrowsecurity
    union all
    select
        'policy',
        pg_catalog.format('%I on %I.%I', p.polname, c.nspname, c.relname),
        c.oid,
        0,
        true,
        pg_catalog.concat_ws(
            ' ',
            p.polcmd,
            p.polpermissive,
            (
                select pg_catalog.string_agg(
                    case u.role when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(u.role)) end, ', '
                    order by case u.role when 0 then 'public' else pg_catalog.pg_get_userbyid(u.role)::text end
                )
                from unnest(p.polroles) as u (role)
                where u.role = 0 or pg_catalog.pg_get_userbyid(u.role) is distinct from $2::text
            )
        ),
        pg_catalog.concat_ws(
            ' with check ', pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)
        )
    from pg_catalog.pg_policy as p
    join relations as c on c.oid = p.polrelid
    union all
    select 'event trigger', pg_catalog.quote_ident(e.evtname), 0, 0, false, e.evtenabled::text, ''
    from pg_catalog.pg_event_trigger as e
    left join of_extensions as x on x.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass and x.objid = e.oid
    where x.objid is null and e.evtname !~ '^pgdetour'
    union all
    select 'extension', pg_catalog.quote_ident(e.extname), 0, 0, false, '', ''
    from pg_catalog.pg_extension as e
)

select
    f.kind,
    f.identity,
    n.nspname::text as relation_schema,
    c.relname::text as relation_name,
    rn.nspname::text as referenced_schema,
    r.relname::text as referenced_name,
    f.used,
    pg_catalog.md5(f.definition) as definition,
    pg_catalog.md5(coalesce(f.shown, '')) as shown
from found as f
left join pg_catalog.pg_class as c on c.oid = f.relation
left join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_class as r on r.oid = f.referenced
left join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
order by f.kind, f.identity
