create table conflict_refused_by_a_trigger.orders (id int primary key, amount int);
insert into conflict_refused_by_a_trigger.orders select n, n from generate_series(1, 4) as n;
