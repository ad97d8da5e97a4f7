create table conflict_check.orders (id int primary key, name text, amount text);
insert into conflict_check.orders select n, 'name ' || n, n::text from generate_series(1, 5) as n;
