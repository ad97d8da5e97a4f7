-- The maintenance has contracts refer to customers.
create table conflict_truncate.contracts (id int primary key, customer int references conflict_truncate.customers);
insert into conflict_truncate.contracts values (1, 1);
