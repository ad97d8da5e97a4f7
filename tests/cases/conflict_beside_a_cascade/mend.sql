insert into conflict_beside_a_cascade.orders values (6, 1, 'note 6');
