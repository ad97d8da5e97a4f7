-- The database that we are in. No parameters. One row; what this version does not have is null.
select
    d.oid,
    d.datname::text as name,
    pg_catalog.pg_encoding_to_char(d.encoding) as encoding,
    d.datcollate::text as collate,
    d.datctype::text as ctype,
    coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') as provider,
    coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') as locale,
    pg_catalog.to_jsonb(d) ->> 'datcollversion' as collation_version,
    pg_catalog.pg_database_size(d.oid) as bytes,
    d.datconnlimit as connection_limit,
    (select t.spcname::text from pg_catalog.pg_tablespace as t where t.oid = d.dattablespace) as tablespace
from pg_catalog.pg_database as d
where d.datname = pg_catalog.current_database()
