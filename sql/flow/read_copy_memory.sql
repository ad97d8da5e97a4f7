-- What index builds may use here. No parameters. One row.
select
    (select s.setting::bigint * 1024 from pg_catalog.pg_settings as s where s.name = 'maintenance_work_mem')
        as maintenance_bytes,
    (select s.setting::bigint * 8192 from pg_catalog.pg_settings as s where s.name = 'effective_cache_size')
        as cache_bytes,
    pg_catalog.current_setting('max_parallel_maintenance_workers')::int4 as maintenance_workers,
    pg_catalog.current_setting('max_parallel_workers')::int4 as parallel_workers
