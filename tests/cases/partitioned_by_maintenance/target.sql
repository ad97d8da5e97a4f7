create table partitioned_by_maintenance.events (id int primary key, day date not null, note text);
insert into partitioned_by_maintenance.events select n, '2024-01-01'::date + n * 30, 'note ' || n from generate_series(1, 12) as n;
