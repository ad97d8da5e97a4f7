-- What sessions of the general roles hold that does not move with them, as far as others can see it: advisory locks and
-- temporary tables; by the last statement of a session notifications listened for, prepared statements and cursors WITH HOLD,
-- of which only their own session has a list.
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
    select said.kind, 'pid ' || a.pid || ' of "' || a.usename || '"'
    from pg_catalog.pg_stat_activity as a
    join (
        values
            ('LISTEN', '^\s*listen\s'),
            ('prepared statements', '^\s*(prepare\s+(?!transaction\s)|execute\s)'),
            -- Outside of a transaction there is no other cursor to fetch from.
            ('WITH HOLD cursors', '^\s*(declare\s.*\swith\s+hold\s|(fetch|move)\s)')
    ) as said (kind, pattern) on a.query ~* said.pattern
    where a.datname = pg_catalog.current_database()
        and a.usename = any ($1::text[])
        and (a.state = 'idle' or said.kind = 'LISTEN')
) as held
group by held.kind
order by held.kind
