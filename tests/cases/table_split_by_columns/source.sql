create table table_split_by_columns.addresses (customer int primary key, street text, city text);
insert into table_split_by_columns.addresses select id, street, city from table_split_by_columns.customers;
alter table table_split_by_columns.customers drop street, drop city;
alter table table_split_by_columns.addresses
    add foreign key (customer) references table_split_by_columns.customers on delete cascade;
