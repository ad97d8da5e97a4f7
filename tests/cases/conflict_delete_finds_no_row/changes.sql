begin;
update conflict_delete_finds_no_row.orders set name = 'fits' where id = 1;
delete from conflict_delete_finds_no_row.orders where id = 2;
insert into conflict_delete_finds_no_row.orders values (2, 'again', null);
commit;
