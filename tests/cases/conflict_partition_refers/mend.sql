insert into conflict_partition_refers.customers values (2, 'name 2');
delete from conflict_partition_refers.orders where id = 100;
