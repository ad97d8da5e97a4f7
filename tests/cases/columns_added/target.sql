create table columns_added.orders (id int primary key, net numeric(10, 2) not null, note text);
insert into columns_added.orders select n, n * 10, 'note ' || n from generate_series(1, 4) as n;
