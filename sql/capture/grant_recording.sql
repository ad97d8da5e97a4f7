-- Lets the owners of partitioned tables make partitions of them: each gets our triggers, and the server asks whether who makes it may
-- execute their function. That records only what happens to the table that has the trigger. No parameters.
do $block$
declare
    owner name;
begin
    for owner in
        select distinct r.rolname
        from pg_catalog.pg_class as c
        join pg_catalog.pg_roles as r on r.oid = c.relowner
        join pg_catalog.pg_trigger as g on g.tgrelid = c.oid and g.tgname = '!pgdetour_capture_delete'
        where c.relkind = 'p'
    loop
        execute pg_catalog.format('grant execute on function pgdetour.record_change() to %I', owner);
    end loop;
end
$block$
