-- Removes what create_refusal and create_view have made, once no trigger calls it. No parameters.
drop function if exists pgdetour.is_restricted(pg_catalog.regclass, text);
drop function if exists pgdetour.is_restricted(pg_catalog.regclass);
drop view if exists pgdetour.restriction;
drop function if exists pgdetour.refuse();
