-- Columns of the temporary table pgdetour_stage that the temporary view pgdetour_expression reads; whether it reads the row
-- as a whole, which leaves no trace in pg_depend; and whether it needs anything else that somebody made in this database
-- (tables, functions, types), so that another server may give another value. No parameters.
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
    ) as needs_others
from pg_catalog.pg_class as v
where v.oid = pg_catalog.to_regclass('pg_temp.pgdetour_expression')
