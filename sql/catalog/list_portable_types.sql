-- Types whose binary form means the same on another server: built-in ones that can be sent and received and hold no
-- OID of a named object, enums and domains over such. One row with all OIDs. $1 boolean: whether intervals are among them
with recursive portable as (
    select t.oid
    from pg_catalog.pg_type as t
    left join pg_catalog.pg_type as e on e.oid = t.typelem and t.typcategory = 'A'
    where (t.oid < 16384 or t.typtype = 'e')
        and t.typtype in ('b', 'r', 'm', 'e')
        and t.typsend <> 0
        and t.typreceive <> 0
        and coalesce(e.typsend <> 0 and e.typtype in ('b', 'r', 'm'), true)
        and pg_catalog.ltrim(t.typname, '_') !~ '^(reg|pg_ddl_command$)'
        and ($1 or pg_catalog.ltrim(t.typname, '_') <> 'interval')
    union
    select d.oid
    from pg_catalog.pg_type as d
    join portable as p on p.oid = d.typbasetype
    where d.typtype = 'd'
)

select array_agg(p.oid) as oids
from portable as p
