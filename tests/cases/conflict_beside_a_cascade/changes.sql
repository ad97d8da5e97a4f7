begin;
delete from conflict_beside_a_cascade.customers where id = 2;
update conflict_beside_a_cascade.orders set note = 'is not there' where id = 6;
insert into conflict_beside_a_cascade.customers values (4, 'name 4');
insert into conflict_beside_a_cascade.orders values (7, 4, 'fits');
commit;
