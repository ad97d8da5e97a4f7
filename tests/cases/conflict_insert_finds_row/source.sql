insert into conflict_insert_finds_row.orders values (100, 'of the maintenance', null);
