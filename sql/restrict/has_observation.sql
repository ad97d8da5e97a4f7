-- Whether anything that create_observation makes is there, and whether all of it is. No parameters.
select
    parts.there > 0 as present,
    parts.there = 3 as whole,
    coalesce(pg_catalog.pg_relation_size(pg_catalog.to_regclass('pgdetour.observation')), 0) as bytes
from (
    select (pg_catalog.to_regprocedure('pgdetour.observe()') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observation') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observed') is not null)::int4 as there
) as parts
