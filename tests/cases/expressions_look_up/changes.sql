insert into expressions_look_up.orders values (4, 'Italy', 40);
update expressions_look_up.orders set country = 'France', amount = 11 where id = 1;
delete from expressions_look_up.orders where id = 2;
