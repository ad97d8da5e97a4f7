-- Columns of the temporary table pgdetour_stage that the temporary view pgdetour_expression reads; whether it reads the row
-- as a whole, which leaves no trace in pg_depend; whether it needs anything else that somebody made in this database
-- (tables, functions, types), so that another server may give another value; and which other tables it reads: through views, in
-- partitions, and in functions, whose bodies, where they are text, tell by the names in them; and which functions in it may give
-- another value each time, of which those of the system are in the view's tree alone. No parameters.
with recursive needed (classid, objid) as (
    select 'pg_catalog.pg_class'::pg_catalog.regclass::oid, pg_catalog.to_regclass('pg_temp.pgdetour_expression')::oid
    union
    select more.classid, more.objid
    from needed as n
    cross join lateral (
        select d.refclassid as classid, d.refobjid as objid
        from pg_catalog.pg_depend as d
        where d.classid = n.classid and d.objid = n.objid
            and d.refobjid >= 16384 and d.refobjid <> pg_catalog.to_regclass('pg_temp.pgdetour_stage')
        union all
        -- What a view selects.
        select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid
        from pg_catalog.pg_rewrite as r
        where n.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and r.ev_class = n.objid and r.ev_type = '1'
        union all
        select 'pg_catalog.pg_class'::pg_catalog.regclass, i.inhrelid
        from pg_catalog.pg_inherits as i
        where n.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and i.inhparent = n.objid
        union all
        select named.classid, named.objid
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
        join (
            select 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relname
            from pg_catalog.pg_class as c
            where c.relkind in ('r', 'p', 'v', 'm')
            union all
            select 'pg_catalog.pg_proc'::pg_catalog.regclass, f.oid, f.proname
            from pg_catalog.pg_proc as f
        ) as named (classid, objid, name)
            on named.objid >= 16384
            -- A word of its own; of other letters than these it is not told everywhere where a word ends.
            and case
                when named.name ~ '^[A-Za-z0-9_]+$' then p.prosrc ~* ('\m' || named.name || '\M')
                else pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(named.name)) > 0
            end
        -- What an immutable one gives depends on its arguments alone: a word in it is no table.
        where n.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and p.oid = n.objid and p.provolatile <> 'i'
    ) as more
)
select
    array(
        select distinct a.attname::text
        from pg_catalog.pg_rewrite as r
        join pg_catalog.pg_depend as d
            on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
            and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        join pg_catalog.pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where r.ev_class = v.oid
            and d.refobjid = pg_catalog.to_regclass('pg_temp.pgdetour_stage')
            and d.refobjsubid > 0
    ) as columns,
    pg_catalog.strpos(pg_catalog.pg_get_viewdef(v.oid), 'old.*') > 0 as whole_row,
    exists (
        select
        from pg_catalog.pg_rewrite as r
        join pg_catalog.pg_depend as d
            on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
        where r.ev_class = v.oid
            and d.refobjid <> v.oid
            and d.refobjid <> pg_catalog.to_regclass('pg_temp.pgdetour_stage')
            and d.refobjid >= 16384
    ) as needs_others,
    array(
        select p.proname::text
        from pg_catalog.pg_rewrite as r
        cross join lateral pg_catalog.regexp_matches(r.ev_action::text, ':(?:funcid|opfuncid) (\d+)', 'g') as m (found)
        join pg_catalog.pg_proc as p on p.oid = m.found[1]::oid
        where r.ev_class = v.oid
            and (
                p.provolatile = 'v'
                or p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
                and (
                    p.proname in (
                        'now', 'transaction_timestamp', 'statement_timestamp', 'txid_current_if_assigned', 'pg_current_xact_id_if_assigned'
                    )
                    -- Since when is as of today.
                    or p.proname = 'age' and p.pronargs = 1
                )
            )
        union
        select 'current_timestamp'
        from pg_catalog.pg_rewrite as r
        -- Those of dates and times; others are of roles and names.
        where r.ev_class = v.oid and r.ev_action::text ~ '\{SQLVALUEFUNCTION :op [0-8] '
        order by 1
    ) as unsteady,
    coalesce(
        (
            select pg_catalog.json_agg(pg_catalog.json_build_array(s.nspname, c.relname))
            from needed as n
            join pg_catalog.pg_class as c on c.oid = n.objid and c.relkind in ('r', 'p')
            join pg_catalog.pg_namespace as s on s.oid = c.relnamespace
            where n.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        ),
        '[]'
    ) as tables
from pg_catalog.pg_class as v
where v.oid = pg_catalog.to_regclass('pg_temp.pgdetour_expression')
