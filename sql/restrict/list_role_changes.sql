-- Statements that make one role like another in this database: attributes, memberships, grants, default grants,
-- settings, policies. Ownership is not among them.
-- $1 text: the role, which need not be there yet; $2 text: the one to be like.
with role as (
    select
        pg_catalog.quote_ident($1::text) as name,
        (select r.oid from pg_catalog.pg_roles as r where r.rolname = $1::text) as oid,
        (select r.oid from pg_catalog.pg_roles as r where r.rolname = $2::text) as model,
        (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()) as database
),
object (target, acl) as (
    select
        case c.relkind when 'S' then 'sequence ' else 'table ' end || pg_catalog.format('%I.%I', n.nspname, c.relname),
        coalesce(
            c.relacl, pg_catalog.acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)
        )
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_(toast|temp)' and n.nspname <> 'pgdetour'
    union all
    select
        'schema ' || pg_catalog.quote_ident(n.nspname),
        coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))
    from pg_catalog.pg_namespace as n
    where n.nspname !~ '^pg_(toast|temp)' and n.nspname <> 'pgdetour'
    union all
    select
        'routine ' || p.oid::pg_catalog.regprocedure,
        coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
    from pg_catalog.pg_proc as p, role
    where p.proacl is not null or p.proowner = role.model
    union all
    select
        'type ' || t.oid::pg_catalog.regtype,
        coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))
    from pg_catalog.pg_type as t
    cross join role
    left join pg_catalog.pg_class as c on c.oid = t.typrelid
    where (t.typacl is not null or t.typowner = role.model)
        and (c.oid is null or c.relkind = 'c')
        and not exists (select from pg_catalog.pg_type as e where e.typarray = t.oid)
        and t.typtype <> 'm'
    union all
    select
        'database ' || pg_catalog.quote_ident(d.datname),
        coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))
    from pg_catalog.pg_database as d, role
    where d.oid = role.database
    union all
    select
        'language ' || pg_catalog.quote_ident(l.lanname),
        coalesce(l.lanacl, pg_catalog.acldefault('l', l.lanowner))
    from pg_catalog.pg_language as l
    union all
    select
        'foreign data wrapper ' || pg_catalog.quote_ident(w.fdwname),
        coalesce(w.fdwacl, pg_catalog.acldefault('F', w.fdwowner))
    from pg_catalog.pg_foreign_data_wrapper as w
    union all
    select
        'foreign server ' || pg_catalog.quote_ident(s.srvname),
        coalesce(s.srvacl, pg_catalog.acldefault('S', s.srvowner))
    from pg_catalog.pg_foreign_server as s
    union all
    select 'large object ' || m.oid, coalesce(m.lomacl, pg_catalog.acldefault('L', m.lomowner))
    from pg_catalog.pg_largeobject_metadata as m
),
held (grantee, target, suffix, privilege, grantable) as (
    select x.grantee, o.target, '', x.privilege_type, pg_catalog.bool_or(x.is_grantable)
    from role
    cross join object as o
    cross join lateral pg_catalog.aclexplode(o.acl) as x
    where x.grantee in (role.oid, role.model)
    group by x.grantee, o.target, x.privilege_type
    union all
    select
        x.grantee,
        'table ' || pg_catalog.format('%I.%I', n.nspname, c.relname),
        ' (' || pg_catalog.quote_ident(a.attname) || ')',
        x.privilege_type,
        pg_catalog.bool_or(x.is_grantable)
    from role
    cross join pg_catalog.pg_attribute as a
    join pg_catalog.pg_class as c on c.oid = a.attrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    cross join lateral pg_catalog.aclexplode(a.attacl) as x
    where a.attacl is not null and not a.attisdropped and x.grantee in (role.oid, role.model)
    group by x.grantee, n.nspname, c.relname, a.attname, x.privilege_type
),
missing as (
    select h.target, h.suffix, h.privilege, h.grantable from held as h, role where h.grantee = role.model
    except
    select h.target, h.suffix, h.privilege, h.grantable from held as h, role where h.grantee = role.oid
),
surplus as (
    select h.target, h.suffix, h.privilege, h.grantable from held as h, role where h.grantee = role.oid
    except
    select h.target, h.suffix, h.privilege, h.grantable from held as h, role where h.grantee = role.model
),
-- Granted by default on what the owner makes later.
later (grantee, owner, namespace, kind, privilege, grantable) as (
    select x.grantee, d.defaclrole, d.defaclnamespace, d.defaclobjtype, x.privilege_type, pg_catalog.bool_or(x.is_grantable)
    from role
    cross join pg_catalog.pg_default_acl as d
    cross join lateral pg_catalog.aclexplode(d.defaclacl) as x
    where x.grantee in (role.oid, role.model) and d.defaclrole <> x.grantee
    group by x.grantee, d.defaclrole, d.defaclnamespace, d.defaclobjtype, x.privilege_type
),
later_missing as (
    select l.owner, l.namespace, l.kind, l.privilege, l.grantable from later as l, role where l.grantee = role.model
    except
    select l.owner, l.namespace, l.kind, l.privilege, l.grantable from later as l, role where l.grantee = role.oid
),
later_surplus as (
    select l.owner, l.namespace, l.kind, l.privilege, l.grantable from later as l, role where l.grantee = role.oid
    except
    select l.owner, l.namespace, l.kind, l.privilege, l.grantable from later as l, role where l.grantee = role.model
),
-- The options came with version 16.
membership (member, team, may_inherit, may_set) as (
    select
        m.member,
        m.roleid,
        pg_catalog.bool_or((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean),
        pg_catalog.bool_or((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean)
    from pg_catalog.pg_auth_members as m, role
    where m.member in (role.oid, role.model)
    group by m.member, m.roleid
),
setting (role, database, name, value) as (
    select
        s.setrole,
        s.setdatabase,
        (
            select pg_catalog.string_agg(pg_catalog.quote_ident(part.text), '.' order by part.place)
            from pg_catalog.string_to_table(pg_catalog.split_part(pair, '=', 1), '.') with ordinality as part (text, place)
        ),
        pg_catalog.substr(pair, pg_catalog.strpos(pair, '=') + 1)
    from role
    cross join pg_catalog.pg_db_role_setting as s
    cross join lateral pg_catalog.unnest(s.setconfig) as pair
    where s.setrole in (role.oid, role.model) and s.setdatabase in (0, role.database)
        -- That is a fence, and no property of the role.
        and pair <> 'default_transaction_read_only=on'
),
setting_missing as (
    select s.database, s.name, s.value from setting as s, role where s.role = role.model
    except
    select s.database, s.name, s.value from setting as s, role where s.role = role.oid
),
setting_surplus as (
    select s.database, s.name from setting as s, role where s.role = role.oid and s.name <> 'pgdetour.limited'
    except
    select s.database, s.name from setting as s, role where s.role = role.model
),
statement (place, text) as (
    select
        1,
        pg_catalog.format(
            'alter role %s with login%s %s connection limit %s%s%s',
            role.name,
            -- Only a superuser may even say so.
            case when mine.rolsuper then ' nosuperuser' end,
            case when model.rolinherit then 'inherit' else 'noinherit' end,
            model.rolconnlimit,
            case
                when model.rolbypassrls then ' bypassrls'
                when mine.rolbypassrls then ' nobypassrls'
                else ''
            end,
            case when model.rolvaliduntil is not null then pg_catalog.format(' valid until %L', model.rolvaliduntil) end
        )
    from role
    join pg_catalog.pg_roles as model on model.oid = role.model
    left join pg_catalog.pg_roles as mine on mine.oid = role.oid
    where mine.oid is null
        or (mine.rolcanlogin, mine.rolsuper, mine.rolinherit, mine.rolconnlimit, mine.rolbypassrls, mine.rolvaliduntil)
        is distinct from (true, false, model.rolinherit, model.rolconnlimit, model.rolbypassrls, model.rolvaliduntil)
    union all
    select
        2,
        pg_catalog.format('grant %I to %s', team.rolname, role.name)
        || coalesce(' with inherit ' || wanted.may_inherit::text || ', set ' || wanted.may_set::text, '')
    from role
    join membership as wanted on wanted.member = role.model
    join pg_catalog.pg_roles as team on team.oid = wanted.team
    where team.oid is distinct from role.oid and not exists (
        select from membership as has
        where has.member = role.oid and has.team = wanted.team
            and (has.may_inherit, has.may_set) is not distinct from (wanted.may_inherit, wanted.may_set)
    )
    union all
    select 3, pg_catalog.format('revoke %I from %s', team.rolname, role.name)
    from role
    join membership as has on has.member = role.oid
    join pg_catalog.pg_roles as team on team.oid = has.team
    where not exists (
        select from membership as wanted where wanted.member = role.model and wanted.team = has.team
    )
    union all
    select
        4,
        pg_catalog.format(
            'revoke %s on %s from %s', pg_catalog.string_agg(s.privilege || s.suffix, ', '), s.target, role.name
        )
    from surplus as s, role
    group by s.target, role.name
    union all
    select
        5,
        pg_catalog.format(
            'grant %s on %s to %s%s',
            pg_catalog.string_agg(m.privilege || m.suffix, ', '), m.target, role.name,
            case when m.grantable then ' with grant option' end
        )
    from missing as m, role
    group by m.target, m.grantable, role.name
    union all
    select
        l.place,
        pg_catalog.format(
            'alter default privileges for role %I %s %s %s on %s %s %s%s',
            owner.rolname,
            'in schema ' || pg_catalog.quote_ident(n.nspname),
            case l.place when 6 then 'revoke' else 'grant' end,
            pg_catalog.string_agg(l.privilege, ', '),
            case l.kind when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
                when 'n' then 'schemas' else 'large objects' end,
            case l.place when 6 then 'from' else 'to' end,
            role.name,
            case when l.place = 7 and l.grantable then ' with grant option' end
        )
    from role
    cross join (
        select 6 as place, * from later_surplus union all select 7, * from later_missing
    ) as l
    join pg_catalog.pg_roles as owner on owner.oid = l.owner
    left join pg_catalog.pg_namespace as n on n.oid = l.namespace
    group by l.place, owner.rolname, n.nspname, l.kind, l.grantable, role.name
    union all
    select
        8,
        pg_catalog.format(
            'alter role %s%s reset %s', role.name,
            case when s.database <> 0 then (
                select pg_catalog.format(' in database %I', d.datname)
                from pg_catalog.pg_database as d
                where d.oid = s.database
            ) end,
            s.name
        )
    from setting_surplus as s, role
    union all
    -- A list is one text here and several names in a statement, so it goes through a parameter of the session.
    select
        9,
        case
            when s.name in ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
            then pg_catalog.format(
                'select pg_catalog.set_config(%L, %L, true); alter role %s%s set %s from current; '
                'select pg_catalog.set_config(%L, '''', true)',
                s.name, s.value, role.name, place.name, s.name, s.name
            )
            else pg_catalog.format('alter role %s%s set %s to %L', role.name, place.name, s.name, s.value)
        end
    from setting_missing as s
    cross join role
    cross join lateral (
        select (
            select pg_catalog.format(' in database %I', d.datname)
            from pg_catalog.pg_database as d
            where d.oid = s.database
        ) as name
    ) as place
    union all
    select
        10,
        pg_catalog.format(
            'alter policy %I on %I.%I to %s, %s',
            p.polname, n.nspname, c.relname,
            (
                select pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', ' order by r.rolname)
                from pg_catalog.pg_roles as r
                where r.oid = any (p.polroles)
            ),
            role.name
        )
    from role
    join pg_catalog.pg_policy as p on role.model = any (p.polroles) and (role.oid = any (p.polroles)) is not true
    join pg_catalog.pg_class as c on c.oid = p.polrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
)
select s.text as statement from statement as s order by s.place, s.text
