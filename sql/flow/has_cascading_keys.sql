-- Whether any foreign key of the database deletes rows by itself, or changes their values. No parameters.
select
    exists (
        select from pg_catalog.pg_constraint as c
        where c.contype = 'f' and c.confdeltype = 'c'
    ) as deleting,
    exists (
        select from pg_catalog.pg_constraint as c
        where c.contype = 'f' and c.confupdtype = 'c'
    ) as updating
