begin;
insert into conflict_insert_finds_row.orders values (99, 'fits', null);
insert into conflict_insert_finds_row.orders values (100, 'of the application', '1');
update conflict_insert_finds_row.orders set amount = '2' where id = 100;
commit;
