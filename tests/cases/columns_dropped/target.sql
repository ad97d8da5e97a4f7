create table columns_dropped.customers (id int primary key, fax text not null, name text, pager int);
insert into columns_dropped.customers select n, '0' || n, 'Customer ' || n, n from generate_series(1, 4) as n;
