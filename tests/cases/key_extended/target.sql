create table key_extended.orders (id int primary key, note text);
insert into key_extended.orders select n, 'note ' || n from generate_series(1, 4) as n;
