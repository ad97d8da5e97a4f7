create table time_zones.meetings (
    id int primary key, begins timestamp, day date, ends timestamptz, seen timestamptz, said timestamp
);
insert into time_zones.meetings
select n, '2024-07-01 12:00', '2024-07-01', '2024-07-01 12:00', '2024-07-01 12:00', '2024-01-01 12:00'
from generate_series(1, 3) as n;
