create table conflict_no_partition.events (id int, day date, primary key (id, day));
insert into conflict_no_partition.events values (1, '2024-01-01'), (2, '2024-02-01');
