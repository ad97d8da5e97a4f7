-- Records that a table is emptied; unlike row triggers, partitions do not inherit it. :table quoted
create or replace trigger "!pgdetour_capture_truncate"
after truncate on :table
for each statement execute function pgdetour.record_truncate();

alter table :table
enable always trigger "!pgdetour_capture_truncate"
