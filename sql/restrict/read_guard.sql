-- Whether what create_guard makes is there, in part or whole, and whether we may make it. No parameters. bodies are those
-- of its functions, which an earlier version may have made.
select
    pg_catalog.count(*) > 0 or pg_catalog.to_regclass('pgdetour.rule') is not null as present,
    pg_catalog.count(*) filter (where e.evtenabled = 'A') = 2
    and pg_catalog.to_regclass('pgdetour.rule') is not null
    and pg_catalog.to_regprocedure('pgdetour.restrict_table(oid)') is not null as whole,
    array(
        select p.prosrc
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'pgdetour' and p.proname in ('guard', 'guard_drop', 'restrict_table')
    ) as bodies,
    (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) as superuser
from pg_catalog.pg_event_trigger as e
where e.evtname in ('pgdetour_guard', 'pgdetour_guard_drop')
