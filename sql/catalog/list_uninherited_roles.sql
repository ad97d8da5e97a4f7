-- Of these roles those that our role may give objects to, and whose privileges it has not: it could make nothing in a schema that it
-- has given away. $1 text[]: names; $2 text: the privilege that allows giving: 'MEMBER', since 16 'SET'
select r.rolname::text as name
from pg_catalog.pg_roles as r
where r.rolname = any ($1) and pg_catalog.pg_has_role(r.oid, $2) and not pg_catalog.pg_has_role(r.oid, 'USAGE')
order by r.rolname
