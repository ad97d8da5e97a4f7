create type conflict_enum_value.state as enum ('new', 'old');
create table conflict_enum_value.orders (id int primary key, state conflict_enum_value.state);
insert into conflict_enum_value.orders values (1, 'new'), (2, 'old');
