-- The maintenance takes away a customer without orders, and gives an order to another one.
delete from conflict_foreign_key.customers where id = 2;
insert into conflict_foreign_key.orders values (100, 3);
