create table conflict_delete_finds_no_row.orders (id int primary key, name text, amount text);
insert into conflict_delete_finds_no_row.orders select n, 'name ' || n, n::text from generate_series(1, 5) as n;
