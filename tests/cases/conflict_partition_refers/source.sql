-- The maintenance takes away a customer without orders, and gives an order to another one.
delete from conflict_partition_refers.customers where id = 2;
insert into conflict_partition_refers.orders values (100, 3);
