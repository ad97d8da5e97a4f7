-- Records markers. No parameters.
create or replace trigger "!pgdetour_capture_insert"
after insert on pgdetour.marker
for each row execute function pgdetour.record_change('I');
alter table pgdetour.marker enable always trigger "!pgdetour_capture_insert"
