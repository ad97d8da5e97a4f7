create table table_split_by_columns.customers (id int primary key, name text not null, street text, city text);
insert into table_split_by_columns.customers select n, 'Customer ' || n, n || ' Main St', 'Town' from generate_series(1, 4) as n;
