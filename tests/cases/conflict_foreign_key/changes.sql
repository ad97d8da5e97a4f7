begin;
insert into conflict_foreign_key.orders values (2, 4);
insert into conflict_foreign_key.orders values (3, 2);
delete from conflict_foreign_key.customers where id = 3;
commit;
