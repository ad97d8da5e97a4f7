delete from conflict_truncate.contracts;
