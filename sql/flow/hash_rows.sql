-- rows, a psql variable: a select of key_text and row_text; $1 bigint: number of buckets; $2 int4[]: the buckets to read
select
    r.key_text,
    count(*) as row_count,
    sum(pg_catalog.hashtextextended(r.row_text collate "C", 0)::numeric)::text as hash
from (:rows) as r
where (((pg_catalog.hashtextextended(r.key_text collate "C", 0) % $1) + $1) % $1)::int4 = any($2)
group by r.key_text
