update key_rewritten_to_an_equal_one.prices set price = 1.00 where price = 1;
update key_rewritten_to_an_equal_one.prices set price = 2.00, note = 'changed' where price = 2;
update key_rewritten_to_an_equal_one.prices set price = 3.00, kind = 'new' where price = 3;
update key_rewritten_to_an_equal_one.names set name = upper(name);
