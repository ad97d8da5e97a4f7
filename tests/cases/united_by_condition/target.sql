create table united_by_condition.orders (id int primary key, active bool not null, note text);
create table united_by_condition.archive (id int primary key, note text);
insert into united_by_condition.orders select n, n % 2 = 0, 'Order ' || n from generate_series(1, 6) as n;
insert into united_by_condition.archive select n, 'Archived ' || n from generate_series(1, 6) as n;
