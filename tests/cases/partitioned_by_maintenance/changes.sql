insert into partitioned_by_maintenance.events values (13, '2024-02-02', 'new'), (14, '2024-12-02', 'new');
update partitioned_by_maintenance.events set note = 'changed' where id in (1, 12);
update partitioned_by_maintenance.events set day = '2024-12-12' where id = 2;
update partitioned_by_maintenance.events set id = 50 where id = 5;
delete from partitioned_by_maintenance.events where id in (3, 11);
