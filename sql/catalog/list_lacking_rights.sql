-- Tables on which our role lacks a right that writing or reading their rows takes.
-- $1 text[]: schemas; $2 text[]: names; $3 bool[]: whether they are written, too. One row a table.
select
    n.nspname::text as schema_name,
    c.relname::text as table_name,
    not pg_catalog.has_schema_privilege(n.oid, 'USAGE') as lacks_schema,
    array(
        select r.name
        from (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) as r (name)
        where (w.written or r.name = 'SELECT') and not pg_catalog.has_table_privilege(c.oid, r.name)
    ) as lacks,
    w.written and not pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') as lacks_truncate,
    pg_catalog.row_security_active(c.oid) as bound
from unnest($1::text[], $2::text[], $3::bool[]) as w (schema_name, table_name, written)
join pg_catalog.pg_namespace as n on n.nspname = w.schema_name
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = w.table_name
order by n.nspname, c.relname
