insert into partitioned_before_maintenance.events values (13, '2024-02-02', 'new'), (14, '2024-12-02', 'new');
update partitioned_before_maintenance.events set note = 'changed' where id in (1, 12);
update partitioned_before_maintenance.events set day = '2024-12-12' where id = 2;
delete from partitioned_before_maintenance.events where id in (3, 11);
