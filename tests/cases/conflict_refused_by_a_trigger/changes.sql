begin;
update conflict_refused_by_a_trigger.orders set amount = 10 where id = 1;
update conflict_refused_by_a_trigger.orders set amount = -2 where id = 2;
commit;
