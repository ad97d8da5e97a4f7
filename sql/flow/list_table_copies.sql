-- No parameters.
select
    t.schema_name,
    t.table_name,
    t.state,
    t.snapshot,
    t.row_count,
    t.byte_count,
    t.analyzed_at is not null as analyzed,
    t.fingerprint,
    -- A record of an earlier version has none of them.
    nullif(pg_catalog.to_jsonb(t) -> 'origin', 'null') as origin,
    nullif(pg_catalog.to_jsonb(t) -> 'origin' -> 'image', 'null') as image_origin,
    (pg_catalog.to_jsonb(t) ->> 'image')::oid as image
from pgdetour.table_copy as t
order by t.schema_name, t.table_name
