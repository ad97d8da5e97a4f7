create table partitioned_before_maintenance.events (id int, day date not null, note text, primary key (id, day)) partition by range (day);
create table partitioned_before_maintenance.events_first partition of partitioned_before_maintenance.events for values from (minvalue) to ('2024-07-01');
create table partitioned_before_maintenance.events_rest partition of partitioned_before_maintenance.events default;
insert into partitioned_before_maintenance.events select n, '2024-01-01'::date + n * 30, 'note ' || n from generate_series(1, 12) as n;
