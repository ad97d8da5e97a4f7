create table conflict_not_null.orders (id int primary key, name text, amount text);
insert into conflict_not_null.orders select n, 'name ' || n, n::text from generate_series(1, 5) as n;
