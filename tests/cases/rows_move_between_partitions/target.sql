create table rows_move_between_partitions.orders (id int, state text, note text, primary key (id, state)) partition by list (state);
create table rows_move_between_partitions.open_orders partition of rows_move_between_partitions.orders for values in ('open');
create table rows_move_between_partitions.done_orders partition of rows_move_between_partitions.orders for values in ('done', 'gone');
insert into rows_move_between_partitions.orders select n, 'open', 'Order ' || n from generate_series(1, 6) as n;
