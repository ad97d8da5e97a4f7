create table columns_merged.people (id int primary key, first_name text not null, last_name text not null, bio text);
alter table columns_merged.people alter bio set storage external;
insert into columns_merged.people select n, 'First' || n, 'Last' || n, repeat('long ', 1000) from generate_series(1, 4) as n;
