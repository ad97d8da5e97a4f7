delete from conflict_update_finds_no_row.orders where id = 2;
