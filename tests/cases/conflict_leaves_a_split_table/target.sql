create table conflict_leaves_a_split_table.accounts (id int primary key, kind text not null, name text);
create table conflict_leaves_a_split_table.orders (id int primary key, account int references conflict_leaves_a_split_table.accounts);
insert into conflict_leaves_a_split_table.accounts values (1, 'person', 'one'), (2, 'company', 'two'), (3, 'person', 'three');
insert into conflict_leaves_a_split_table.orders values (10, 1), (30, 3);
