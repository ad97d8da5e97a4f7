insert into columns_added.orders values (5, 50, 'five');
update columns_added.orders set net = 11 where id = 1;
update columns_added.orders set note = null where id = 2;
delete from columns_added.orders where id = 3;
