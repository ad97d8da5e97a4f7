-- Foreign-data wrappers, of extensions, of the foreign servers that a dump of this database makes anew, and who owns these.
-- No parameters.
-- One row a wrapper; owners without superusers.
select
    w.fdwname::text as wrapper,
    coalesce(
        pg_catalog.array_agg(distinct r.rolname::text order by r.rolname::text) filter (where not r.rolsuper), '{}'
    ) as owners
from pg_catalog.pg_foreign_server as s
join pg_catalog.pg_foreign_data_wrapper as w on w.oid = s.srvfdw
join pg_catalog.pg_roles as r on r.oid = s.srvowner
where exists (
    select from pg_catalog.pg_depend as d
    where d.classid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass and d.objid = w.oid and d.deptype = 'e'
) and not exists (
    select from pg_catalog.pg_depend as d
    where d.classid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass and d.objid = s.oid and d.deptype = 'e'
)
group by w.fdwname
order by w.fdwname
