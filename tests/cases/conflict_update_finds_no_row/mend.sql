insert into conflict_update_finds_no_row.orders values (2, 'name 2', '2');
