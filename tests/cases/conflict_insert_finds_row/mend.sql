delete from conflict_insert_finds_row.orders where id = 100;
