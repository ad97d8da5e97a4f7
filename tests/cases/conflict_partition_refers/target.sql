create table conflict_partition_refers.customers (id int primary key, name text) partition by range (id);
create table conflict_partition_refers.customers_few partition of conflict_partition_refers.customers for values from (0) to (3);
create table conflict_partition_refers.customers_more partition of conflict_partition_refers.customers for values from (3) to (100);
create table conflict_partition_refers.orders (id int primary key, customer int references conflict_partition_refers.customers) partition by hash (id);
create table conflict_partition_refers.orders_0 partition of conflict_partition_refers.orders for values with (modulus 2, remainder 0);
create table conflict_partition_refers.orders_1 partition of conflict_partition_refers.orders for values with (modulus 2, remainder 1);
insert into conflict_partition_refers.customers select n, 'name ' || n from generate_series(1, 5) as n;
insert into conflict_partition_refers.orders values (1, 1);
