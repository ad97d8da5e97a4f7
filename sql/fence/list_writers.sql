-- Transactions that no fence ends, have written to tables which are carried over, and are open still: what they commit behind
-- the marker is carried no more. They are those of other than the general roles, and of background workers whatever their role.
-- Ours are left out; the workers of the mirror are on the side that does not serve.
-- $1 text[]: general roles; $2 oid[]: the tables.
-- The transaction's number, and then as list_sessions.sql; the longest transaction first.
with writing as (
    select distinct l.pid, l.virtualtransaction
    from pg_catalog.pg_locks as l
    where l.locktype = 'relation'
        and l.granted
        -- INSERT, UPDATE, DELETE and COPY; TRUNCATE.
        and l.mode in ('RowExclusiveLock', 'AccessExclusiveLock')
        and l.relation = any ($2::oid[])
        and l.database = (
            select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database()
        )
)

select
    a.backend_xid::text as xid,
    a.pid,
    coalesce(a.usename::text, a.backend_type, '') as role_name,
    a.application_name::text as application_name,
    pg_catalog.host(a.client_addr) as address,
    case a.backend_type when 'client backend' then coalesce(a.state, 'unknown') else a.backend_type end as state,
    false as idle,
    extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8 as transaction_seconds,
    pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 80) as query,
    null::text as gid
from pg_catalog.pg_stat_activity as a
where a.pid in (select w.pid from writing as w)
    -- Background workers of extensions and of other subscriptions write, too, some of them as nobody. A fence neither ends
    -- them nor keeps them out.
    and (coalesce(a.usename, '') <> all ($1::text[]) or a.backend_type <> 'client backend')
    and a.application_name not like 'pgdetour%'
    and a.backend_xid is not null
    and a.pid <> pg_catalog.pg_backend_pid()
union all
select
    p.transaction::text,
    null,
    p.owner::text,
    '',
    null,
    'prepared',
    false,
    extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::float8,
    null,
    p.gid
from pg_catalog.pg_prepared_xacts as p
where p.database = pg_catalog.current_database()
    and p.owner <> all ($1::text[])
    -- Locks of a prepared transaction have no process; that on its number tells which are its own.
    and exists (
        select
        from pg_catalog.pg_locks as x
        join writing as w on w.virtualtransaction = x.virtualtransaction and w.pid is null
        where x.locktype = 'transactionid' and x.transactionid = p.transaction
    )
order by transaction_seconds desc nulls last, pid
