alter table partitioned_by_maintenance.events rename to old_events;
alter index partitioned_by_maintenance.events_pkey rename to old_events_pkey;
create table partitioned_by_maintenance.events (id int, day date not null, note text, primary key (id, day)) partition by range (day);
create table partitioned_by_maintenance.events_first partition of partitioned_by_maintenance.events for values from (minvalue) to ('2024-07-01');
create table partitioned_by_maintenance.events_rest partition of partitioned_by_maintenance.events default;
insert into partitioned_by_maintenance.events select * from partitioned_by_maintenance.old_events;
drop table partitioned_by_maintenance.old_events;
