-- Removes what create_guard has made. No parameters.
drop event trigger if exists pgdetour_guard;
drop event trigger if exists pgdetour_guard_drop;
drop function if exists pgdetour.guard();
drop function if exists pgdetour.guard_drop();
drop function if exists pgdetour.restrict_table(pg_catalog.oid);
drop table if exists pgdetour.rule;
drop table if exists pgdetour.restricting;
