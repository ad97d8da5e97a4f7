create table key_rewritten_to_an_equal_one.old_prices (price numeric primary key, note text, extra text);
create table key_rewritten_to_an_equal_one.new_prices (price numeric primary key, note text, extra text);
create table key_rewritten_to_an_equal_one.old_names (name text collate key_rewritten_to_an_equal_one.caseless primary key, extra text);
create table key_rewritten_to_an_equal_one.new_names (name text collate key_rewritten_to_an_equal_one.caseless primary key, extra text);
insert into key_rewritten_to_an_equal_one.old_prices select price, note, 'kept' from key_rewritten_to_an_equal_one.prices where kind = 'old';
insert into key_rewritten_to_an_equal_one.new_prices select price, note, 'kept' from key_rewritten_to_an_equal_one.prices where kind = 'new';
insert into key_rewritten_to_an_equal_one.old_names select name, 'kept' from key_rewritten_to_an_equal_one.names where kind = 'old';
insert into key_rewritten_to_an_equal_one.new_names select name, 'kept' from key_rewritten_to_an_equal_one.names where kind = 'new';
drop table key_rewritten_to_an_equal_one.prices, key_rewritten_to_an_equal_one.names;
