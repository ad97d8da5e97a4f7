create table condition_on_a_large_value.notes (id int primary key, body text, stars int not null);
alter table condition_on_a_large_value.notes alter body set storage external;
insert into condition_on_a_large_value.notes select n, repeat(case when n % 2 = 0 then 'kept ' else 'left ' end, 500), n from generate_series(1, 20) as n;
