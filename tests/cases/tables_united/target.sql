create table tables_united.cats (id int primary key, name text not null, lives int not null);
create table tables_united.dogs (id int primary key, name text not null, tricks text);
insert into tables_united.cats select n, 'Cat ' || n, 9 - n from generate_series(1, 4) as n;
insert into tables_united.dogs select n, 'Dog ' || n, 'sit' from generate_series(1, 4) as n;
