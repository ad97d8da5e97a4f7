begin;
update conflict_update_finds_no_row.orders set name = 'fits' where id = 1;
update conflict_update_finds_no_row.orders set name = 'first' where id = 2;
update conflict_update_finds_no_row.orders set name = 'second' where id = 2;
update conflict_update_finds_no_row.orders set id = 20 where id = 2;
update conflict_update_finds_no_row.orders set name = 'third' where id = 20;
commit;
