insert into table_split_by_columns.customers values (5, 'Customer 5', null, 'City');
update table_split_by_columns.customers set name = 'Changed', city = 'Changed' where id = 1;
update table_split_by_columns.customers set id = 20 where id = 2;
delete from table_split_by_columns.customers where id = 3;
