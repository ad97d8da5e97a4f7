create table conflict_beside_a_cascade.customers (id int primary key, name text);
create table conflict_beside_a_cascade.orders (id int primary key, customer int references conflict_beside_a_cascade.customers on delete cascade, note text);
insert into conflict_beside_a_cascade.customers select n, 'name ' || n from generate_series(1, 3) as n;
insert into conflict_beside_a_cascade.orders select n, 1 + n % 3, 'note ' || n from generate_series(1, 6) as n;
