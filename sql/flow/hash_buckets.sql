-- rows, a psql variable: a select of key_text and row_text; $1 bigint: number of buckets
select
    (((h.key_hash % $1) + $1) % $1)::int4 as bucket,
    count(*) as row_count,
    sum(h.row_hash)::text as hash
from (
    select
        pg_catalog.hashtextextended(r.key_text collate "C", 0) as key_hash,
        pg_catalog.hashtextextended(r.row_text collate "C", 0)::numeric as row_hash
    from (:rows) as r
) as h
group by 1
