create type enum_values_renamed.state as enum ('new', 'paid', 'gone');
create table enum_values_renamed.orders (id int primary key, state enum_values_renamed.state not null, note text,
    earlier enum_values_renamed.state[]);
create table enum_values_renamed.others (state enum_values_renamed.state primary key, note text);
insert into enum_values_renamed.orders select n, (enum_range(null::enum_values_renamed.state))[n], 'note' from generate_series(1, 3) as n;
insert into enum_values_renamed.others values ('paid', 'note');
