-- The same for a table whose rows are told apart by all of their columns. :table quoted
create or replace trigger "!pgdetour_capture_insert"
after insert on :table
for each row execute function pgdetour.record_change('I');

create or replace trigger "!pgdetour_capture_delete"
after delete on :table
for each row execute function pgdetour.record_change('D');

create or replace trigger "!pgdetour_capture_update"
after update on :table
for each row execute function pgdetour.record_change('M');

alter table :table
enable always trigger "!pgdetour_capture_insert",
enable always trigger "!pgdetour_capture_delete",
enable always trigger "!pgdetour_capture_update"
