insert into columns_dropped.customers values (5, '05', 'Customer 5', null);
update columns_dropped.customers set fax = 'only the fax changes' where id = 1;
update columns_dropped.customers set name = 'Changed', pager = null where id = 2;
delete from columns_dropped.customers where id = 3;
