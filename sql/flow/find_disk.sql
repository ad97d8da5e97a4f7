-- The directory of the data, if we may know it and it is on our own machine. No parameters.
select pg_catalog.current_setting('data_directory', true) as directory
where pg_catalog.inet_server_addr() is not distinct from pg_catalog.inet_client_addr()
    and (
        pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'member')
        or (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user)
    )
