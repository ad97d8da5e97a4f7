create table schema_moved.orders (id int primary key, note text);
insert into schema_moved.orders select n, 'note ' || n from generate_series(1, 3) as n;
