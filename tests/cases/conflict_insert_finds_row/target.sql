create table conflict_insert_finds_row.orders (id int primary key, name text, amount text);
insert into conflict_insert_finds_row.orders select n, 'name ' || n, n::text from generate_series(1, 5) as n;
