-- The other databases in which something belongs to a role or is granted to it: it cannot be dropped as long as they have that.
-- $1 text: the role.
select d.datname::text as database_name, pg_catalog.bool_or(s.deptype = 'o') as owns
from pg_catalog.pg_shdepend as s
join pg_catalog.pg_roles as r on r.oid = s.refobjid
join pg_catalog.pg_database as d on d.oid = s.dbid
where s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    and r.rolname = $1::text
    and d.datname <> pg_catalog.current_database()
group by d.datname
order by d.datname
