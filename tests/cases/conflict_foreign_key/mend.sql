insert into conflict_foreign_key.customers values (2, 'name 2');
delete from conflict_foreign_key.orders where id = 100;
