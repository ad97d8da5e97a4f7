create table columns_retyped.readings (
    id int primary key, taken timestamp not null, degrees text not null, tags text, flag smallint not null, code int
);
insert into columns_retyped.readings
select n, '2024-01-01 10:00'::timestamp + n * interval '1 hour', n || '.5', 'a,b', n % 2, n from generate_series(1, 4) as n;
