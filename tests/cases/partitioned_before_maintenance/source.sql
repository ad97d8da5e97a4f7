create table partitioned_before_maintenance.flat (like partitioned_before_maintenance.events including all);
insert into partitioned_before_maintenance.flat select * from partitioned_before_maintenance.events;
drop table partitioned_before_maintenance.events;
alter table partitioned_before_maintenance.flat rename to events;
