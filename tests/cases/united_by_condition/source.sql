create table united_by_condition.all_orders (origin text, id int, note text, seen bool, primary key (origin, id));
insert into united_by_condition.all_orders select 'orders', id, note, true from united_by_condition.orders where active;
insert into united_by_condition.all_orders select 'archive', id, note, true from united_by_condition.archive;
drop table united_by_condition.orders, united_by_condition.archive;
