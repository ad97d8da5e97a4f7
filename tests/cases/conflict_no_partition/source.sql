alter table conflict_no_partition.events rename to old_events;
alter index conflict_no_partition.events_pkey rename to old_events_pkey;
create table conflict_no_partition.events (id int, day date, primary key (id, day)) partition by range (day);
create table conflict_no_partition.events_2024 partition of conflict_no_partition.events for values from ('2024-01-01') to ('2025-01-01');
insert into conflict_no_partition.events select * from conflict_no_partition.old_events;
drop table conflict_no_partition.old_events;
