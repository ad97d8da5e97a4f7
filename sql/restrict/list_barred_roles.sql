-- Those of some roles that may not execute a function, be it that it is not there.
-- $1 text[]: roles; $2 text: function with its arguments.
select wanted.name as role_name
from pg_catalog.unnest($1::text[]) as wanted (name)
where pg_catalog.has_function_privilege(wanted.name, pg_catalog.to_regprocedure($2::text), 'execute') is not true
order by wanted.name
