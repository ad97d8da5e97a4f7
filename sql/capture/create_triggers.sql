-- Records every row change of a table. Their names come first among its triggers, which fire by name, so that a change
-- is recorded before another trigger makes the next. They fire in sessions that act as a replica, too: a restore, or a loader of
-- fixtures.
-- :table quoted; :old_key and :new_key what tells rows apart, quoted columns of old and new
create or replace trigger "!pgdetour_capture_insert"
after insert on :table
for each row execute function pgdetour.record_change('I');

create or replace trigger "!pgdetour_capture_delete"
after delete on :table
for each row execute function pgdetour.record_change('D');

create or replace trigger "!pgdetour_capture_update"
after update on :table
for each row when ((row(:old_key))::record operator(pg_catalog.*=) (row(:new_key))::record)
execute function pgdetour.record_change('U');

create or replace trigger "!pgdetour_capture_move"
after update on :table
for each row when ((row(:old_key))::record operator(pg_catalog.*<>) (row(:new_key))::record)
execute function pgdetour.record_change('M');

alter table :table
enable always trigger "!pgdetour_capture_insert",
enable always trigger "!pgdetour_capture_delete",
enable always trigger "!pgdetour_capture_update",
enable always trigger "!pgdetour_capture_move"
