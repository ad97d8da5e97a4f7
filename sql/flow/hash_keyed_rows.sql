-- :rows a select of key_text, key_parts, row_text and version; $1 bigint: number of buckets; $2 int4[]: the buckets to read
select
    r.key_text,
    pg_catalog.min(r.key_parts) as key_parts,
    sum(pg_catalog.hashtextextended(r.row_text collate "C", 0)::numeric)::text || '/' || count(*)::text as hash,
    sum(pg_catalog.hashtextextended(r.version collate "C", 0)::numeric)::text as version
from (:rows) as r
where (((pg_catalog.hashtextextended(r.key_text collate "C", 0) % $1) + $1) % $1)::int4 = any($2)
group by r.key_text
