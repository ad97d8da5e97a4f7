create table expressions_look_up.orders (id int primary key, country text not null, amount numeric not null);
insert into expressions_look_up.orders values (1, 'Germany', 10), (2, 'France', 20), (3, 'Germany', 30);
