-- Tables to be copied; partitioned ones have no rows of their own and count as copied.
-- $1 text[]: schemas; $2 text[]: names; $3 boolean[]: partitioned; $4 text[]: what their definitions hash to
insert into pgdetour.table_copy (schema_name, table_name, state, row_count, byte_count, copied_at, fingerprint)
select
    t.schema_name,
    t.table_name,
    case when t.partitioned then 'copied' else 'waiting' end,
    case when t.partitioned then 0 end,
    case when t.partitioned then 0 end,
    case when t.partitioned then pg_catalog.clock_timestamp() end,
    t.fingerprint
from unnest($1::text[], $2::text[], $3::boolean[], $4::text[])
    as t (schema_name, table_name, partitioned, fingerprint)
on conflict (schema_name, table_name) do nothing
