insert into key_renamed.orders values (9, 1, 'new');
update key_renamed.orders set note = 'changed' where id = 1 and line = 0;
update key_renamed.orders set line = 5 where id = 1 and line = 1;
delete from key_renamed.orders where id = 2;
