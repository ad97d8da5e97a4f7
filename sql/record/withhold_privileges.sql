-- Takes back what default privileges have given to others on what our role has made in schema pgdetour: who writes there has us run
-- statements. What our own scripts grant stays. No parameters; runs again without effect.
do $$
declare
    given record;
begin
    for given in
        with object as (
            select 'n' as kind, n.nspowner as owner, n.nspacl as acl, 'schema' as type, n.nspname::text as name, 'pgdetour' as identity
            from pg_catalog.pg_namespace as n
            where n.nspname = 'pgdetour'
            union all
            select
                case c.relkind when 'S' then 'S' else 'r' end,
                c.relowner,
                c.relacl,
                case c.relkind when 'S' then 'sequence' else 'table' end,
                c.relname,
                pg_catalog.format('pgdetour.%I', c.relname)
            from pg_catalog.pg_class as c
            join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = 'pgdetour' and c.relkind in ('r', 'v', 'S')
            union all
            select 'f', p.proowner, p.proacl, 'function', p.proname, p.oid::pg_catalog.regprocedure::text
            from pg_catalog.pg_proc as p
            join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
            where n.nspname = 'pgdetour'
        )

        select
            o.type,
            o.identity,
            x.privilege_type as privilege,
            case x.grantee
                when 0 then 'public'
                else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee))
            end as grantee
        from object as o
        cross join lateral pg_catalog.aclexplode(o.acl) as x
        where o.owner = (select r.oid from pg_catalog.pg_roles as r where r.rolname = current_user)
            and x.grantee <> o.owner
            and exists (
                select
                from pg_catalog.pg_default_acl as d
                cross join lateral pg_catalog.aclexplode(d.defaclacl) as g
                where d.defaclrole = o.owner and d.defaclobjtype = o.kind
                    and g.grantee = x.grantee and g.privilege_type = x.privilege_type
            )
            and not (
                x.grantee = 0 and (
                    (o.kind, x.privilege_type) = ('n', 'USAGE')
                    or (o.name, x.privilege_type) = ('restriction', 'SELECT')
                    or o.name ~ '^observed_(count|last)_[0-9]+$' and x.privilege_type = 'UPDATE'
                    -- Everybody's by default: our scripts take it back themselves.
                    or o.kind = 'f'
                )
            )
            -- Whoever owns partitioned tables makes partitions of them, with clones of our triggers.
            and not (
                o.kind = 'f' and o.name in ('record_change', 'refuse', 'observe')
                and exists (select from pg_catalog.pg_class as c where c.relkind = 'p' and c.relowner = x.grantee)
            )
    loop
        execute pg_catalog.format(
            'revoke %s on %s %s from %s cascade', given.privilege, given.type, given.identity, given.grantee
        );
    end loop;
end
$$
