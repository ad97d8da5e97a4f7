insert into time_zones.meetings
values (4, '2024-07-01 12:00', '2024-07-01', '2024-07-01 12:00', '2024-07-01 12:00', '2024-01-01 12:00');
update time_zones.meetings set begins = begins + interval '1 hour', said = said where id = 2;
delete from time_zones.meetings where id = 3;
