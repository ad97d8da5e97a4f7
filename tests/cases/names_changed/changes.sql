insert into names_changed.customers values (6, 'Customer 6', null);
update names_changed.customers set name = 'Renamed' where id = 2;
update names_changed.customers set id = 30 where id = 3;
delete from names_changed.customers where id = 4;
