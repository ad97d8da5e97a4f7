insert into conflict_join_finds_no_row.people values (2, 'User 2');
