insert into enum_values_renamed.orders values (4, 'new', 'a', '{}'), (5, 'paid', 'b', '{new,paid,new}');
update enum_values_renamed.orders set state = 'new' where id = 2;
update enum_values_renamed.orders set state = 'gone', earlier = '{new,null}' where id = 1;
update enum_values_renamed.others set note = 'changed';
insert into enum_values_renamed.others values ('gone', 'note');
delete from enum_values_renamed.orders where id = 3;
