-- Whether our role may make temporary tables in this database.
select pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') as allowed
