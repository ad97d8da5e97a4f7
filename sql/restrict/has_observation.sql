-- Whether anything that create_observation makes is there, and whether all of it is. No parameters. generation tells this
-- observation from an earlier one: 0 when there is none.
select
    parts.there > 0 as present,
    parts.there = 6 as whole,
    coalesce(pg_catalog.pg_relation_size(pg_catalog.to_regclass('pgdetour.observation')), 0) as bytes,
    coalesce(pg_catalog.to_regclass('pgdetour.observation')::oid, 0) as generation
from (
    select (pg_catalog.to_regprocedure('pgdetour.observe()') is not null)::int4
        + (pg_catalog.to_regprocedure('pgdetour.observe_first(oid, text, text)') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observation') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observed') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observed_kind') is not null)::int4
        + (pg_catalog.to_regclass('pgdetour.observed_last_64') is not null)::int4 as there
) as parts
