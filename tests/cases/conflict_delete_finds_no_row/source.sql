delete from conflict_delete_finds_no_row.orders where id = 2;
