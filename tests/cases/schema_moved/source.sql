create schema schema_moved_sales;
alter table schema_moved.orders set schema schema_moved_sales;
