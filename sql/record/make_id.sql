-- A fresh identifier for a detour or a marker.
select pg_catalog.gen_random_uuid()::text as id
