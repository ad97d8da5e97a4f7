-- Settings by which statements of this session get into the server's log or statistics: whether they do so now, and whether our role
-- may set them. $1 text[]: their names; $2 text[]: values by which they do not; :allowed whether our role r may set s.name
select
    s.name,
    s.quiet,
    :allowed as allowed,
    coalesce(pg_catalog.current_setting(s.name, true) <> s.quiet, false) as tells
from pg_catalog.pg_roles as r
cross join lateral unnest($1::text[], $2::text[]) as s (name, quiet)
where r.rolname = current_user
