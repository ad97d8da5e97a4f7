delete from conflict_beside_a_cascade.orders where id = 6;
