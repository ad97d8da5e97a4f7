-- Whether any foreign key of the database deletes rows by itself. No parameters.
select exists (
    select from pg_catalog.pg_constraint as c
    where c.contype = 'f' and c.confdeltype = 'c'
) as cascading
