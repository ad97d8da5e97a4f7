insert into generated_no_more.orders (id, net, price) values (5, 500, 12);
update generated_no_more.orders set net = 100 where id = 1;
update generated_no_more.orders set price = null where id = 2;
update generated_no_more.orders set id = 9, net = 7 where id = 4;
delete from generated_no_more.orders where id = 3;
