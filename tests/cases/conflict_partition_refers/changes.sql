begin;
insert into conflict_partition_refers.orders values (2, 4);
insert into conflict_partition_refers.orders values (3, 2);
delete from conflict_partition_refers.customers where id = 3;
commit;
