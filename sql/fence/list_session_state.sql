-- What sessions of the general roles hold that does not move with them, as far as others can see it: advisory locks, temporary
-- tables, notifications listened for. Cursors and prepared statements are seen by their own session alone.
-- $1 text[]: general roles. One row a kind that there is.
select held.kind, pg_catalog.count(*) as holders, pg_catalog.min(held.example) as example
from (
    select distinct 'advisory locks' as kind, 'pid ' || a.pid || ' of "' || a.usename || '"' as example
    from pg_catalog.pg_locks as l
    join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    where l.locktype = 'advisory'
        and a.datname = pg_catalog.current_database()
        and a.usename = any ($1::text[])
    union all
    select 'temporary tables', pg_catalog.format('%I of "%s"', c.relname, r.rolname)
    from pg_catalog.pg_class as c
    join pg_catalog.pg_roles as r on r.oid = c.relowner
    where c.relpersistence = 't' and c.relkind in ('r', 'p', 'S') and r.rolname = any ($1::text[])
    union all
    select 'LISTEN', 'pid ' || a.pid || ' of "' || a.usename || '"'
    from pg_catalog.pg_stat_activity as a
    where a.datname = pg_catalog.current_database()
        and a.usename = any ($1::text[])
        and a.query ~* '^\s*listen\s'
) as held
group by held.kind
order by held.kind
