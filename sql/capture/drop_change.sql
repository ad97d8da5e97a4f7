-- Removes the recording by triggers, whose triggers are gone already. No parameters.
drop event trigger if exists pgdetour_capture;
drop event trigger if exists pgdetour_capture_drop;
drop table if exists pgdetour.change, pgdetour.change_order, pgdetour.change_state, pgdetour.description;
drop function if exists pgdetour.record_change() cascade;
drop function if exists pgdetour.record_truncate() cascade;
drop function if exists pgdetour.carries();
drop function if exists pgdetour.describe(oid);
drop function if exists pgdetour.follow_definition();
drop function if exists pgdetour.follow_drop()
