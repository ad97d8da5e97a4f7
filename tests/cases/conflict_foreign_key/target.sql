create table conflict_foreign_key.customers (id int primary key, name text);
create table conflict_foreign_key.orders (id int primary key, customer int references conflict_foreign_key.customers);
insert into conflict_foreign_key.customers select n, 'name ' || n from generate_series(1, 5) as n;
insert into conflict_foreign_key.orders values (1, 1);
