create table conflict_leaves_a_split_table.persons (id int primary key, name text);
create table conflict_leaves_a_split_table.companies (id int primary key, name text);
insert into conflict_leaves_a_split_table.persons select id, name from conflict_leaves_a_split_table.accounts where kind = 'person';
insert into conflict_leaves_a_split_table.companies select id, name from conflict_leaves_a_split_table.accounts where kind = 'company';
alter table conflict_leaves_a_split_table.orders
    drop constraint orders_account_fkey, add foreign key (account) references conflict_leaves_a_split_table.persons;
drop table conflict_leaves_a_split_table.accounts;
