-- Both servers have a TimeZone, a DateStyle, an IntervalStyle and a bytea_output of their own.
create table conventions.meetings (
    id int primary key, begins timestamp, day date, ends timestamptz, seen timestamptz, said timestamp,
    written text, lasts interval, marked bytea
);
insert into conventions.meetings
select
    n, '2024-07-01 12:00', '2024-07-01', '2024-07-01 12:00', '2024-07-01 12:00', '2024-01-01 12:00',
    '03/04/2024', '1 day', 'abc'
from generate_series(1, 3) as n;
