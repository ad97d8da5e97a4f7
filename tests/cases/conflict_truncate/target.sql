create table conflict_truncate.customers (id int primary key, name text);
insert into conflict_truncate.customers select n, 'name ' || n from generate_series(1, 3) as n;
