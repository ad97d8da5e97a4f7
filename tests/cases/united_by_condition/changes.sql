update united_by_condition.orders set note = 'still inactive' where id = 1;
update united_by_condition.orders set active = false where id = 2;
update united_by_condition.orders set active = true where id = 5;
update united_by_condition.orders set id = 40 where id = 4;
delete from united_by_condition.orders where id = 3;
delete from united_by_condition.archive where id = 6;
