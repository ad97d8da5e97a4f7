insert into conventions.meetings
values (
    4, '2024-07-01 12:00', '2024-07-01', '2024-07-01 12:00', '2024-07-01 12:00', '2024-01-01 12:00', '03/04/2024', '1 day', 'abc'
);
update conventions.meetings set begins = begins + interval '1 hour', said = said where id = 2;
delete from conventions.meetings where id = 3;
