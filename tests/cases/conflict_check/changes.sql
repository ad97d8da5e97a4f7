begin;
update conflict_check.orders set name = 'fits' where id = 1;
update conflict_check.orders set name = 'is longer than that' where id = 2;
update conflict_check.orders set amount = '9' where id = 2;
commit;
