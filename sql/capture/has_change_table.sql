-- Whether changes are recorded by triggers here, and the size of what is kept, in bytes. No parameters.
select
    pg_catalog.to_regclass('pgdetour.change') is not null as present,
    coalesce(pg_catalog.pg_total_relation_size(pg_catalog.to_regclass('pgdetour.change')), 0) as retained_bytes
