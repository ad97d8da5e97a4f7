-- Where sessions of the general roles in this database come from; those over a Unix socket are left out.
-- $1 text[]: general roles
select a.pid, pg_catalog.host(a.client_addr) as address, a.client_port as port
from pg_catalog.pg_stat_activity as a
where a.datname = pg_catalog.current_database()
    and a.usename = any ($1::text[])
    and a.backend_type = 'client backend'
    and a.client_addr is not null
order by a.pid
