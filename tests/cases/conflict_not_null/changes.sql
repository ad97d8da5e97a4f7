begin;
update conflict_not_null.orders set name = 'fits' where id = 1;
update conflict_not_null.orders set name = null where id = 2;
insert into conflict_not_null.orders values (6, null, null);
commit;
