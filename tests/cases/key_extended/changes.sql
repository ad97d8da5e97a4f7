insert into key_extended.orders values (5, 'note 5');
update key_extended.orders set note = 'changed' where id = 1;
update key_extended.orders set id = 21 where id = 2;
delete from key_extended.orders where id = 3;
