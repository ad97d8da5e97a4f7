begin;
update conflict_unique.orders set name = 'fits' where id = 1;
insert into conflict_unique.orders values (6, 'name 2', null);
update conflict_unique.orders set name = 'name 3' where id = 4;
commit;
