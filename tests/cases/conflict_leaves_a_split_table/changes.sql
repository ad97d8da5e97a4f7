update conflict_leaves_a_split_table.accounts set kind = 'company' where id = 1;
