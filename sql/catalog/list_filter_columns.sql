-- Columns of a table that the temporary view pgdetour_filter reads. $1 oid: the table
select distinct a.attname::text as column_name
from pg_catalog.pg_rewrite as r
join pg_catalog.pg_depend as d
    on d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.objid = r.oid
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
join pg_catalog.pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where r.ev_class = pg_catalog.to_regclass('pg_temp.pgdetour_filter')
    and d.refobjid = $1
    and d.refobjsubid > 0
