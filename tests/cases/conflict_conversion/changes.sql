begin;
update conflict_conversion.orders set amount = '11' where id = 1;
update conflict_conversion.orders set amount = 'many' where id = 2;
insert into conflict_conversion.orders values (6, 'a long name', '6');
commit;
