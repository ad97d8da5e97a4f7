-- Whether what create_guard makes is there, in part or whole, and whether we may make it. No parameters.
select
    pg_catalog.count(*) > 0 or pg_catalog.to_regclass('pgdetour.rule') is not null as present,
    pg_catalog.count(*) filter (where e.evtenabled = 'A') = 2
    and pg_catalog.to_regclass('pgdetour.rule') is not null
    and pg_catalog.to_regprocedure('pgdetour.restrict_table(oid)') is not null as whole,
    (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) as superuser
from pg_catalog.pg_event_trigger as e
where e.evtname in ('pgdetour_guard', 'pgdetour_guard_drop')
