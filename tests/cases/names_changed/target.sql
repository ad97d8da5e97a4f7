create table names_changed.customers (id int primary key, name text not null, mail text);
insert into names_changed.customers select n, 'Customer ' || n, n || '@example.org' from generate_series(1, 5) as n;
