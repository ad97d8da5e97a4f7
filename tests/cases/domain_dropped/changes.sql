insert into domain_dropped.items values (5, 50, 'item 5');
update domain_dropped.items set amount = 11 where id = 1;
update domain_dropped.items set id = 22, name = null where id = 2;
delete from domain_dropped.items where id = 3;
