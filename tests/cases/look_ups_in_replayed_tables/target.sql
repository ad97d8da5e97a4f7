create table look_ups_in_replayed_tables.countries (code text primary key, rate int not null);
create table look_ups_in_replayed_tables.orders (id int primary key, country text not null, amount int not null);
create table look_ups_in_replayed_tables.folders (id int primary key, up int, name text not null);
insert into look_ups_in_replayed_tables.countries values ('DE', 19);
insert into look_ups_in_replayed_tables.orders values (1, 'DE', 10), (2, 'DE', 20), (3, 'DE', 30);
insert into look_ups_in_replayed_tables.folders values (1, null, 'home');
