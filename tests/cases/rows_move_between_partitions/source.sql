alter table rows_move_between_partitions.orders add checked text default 'no';
update rows_move_between_partitions.orders set checked = 'by ' || id;
