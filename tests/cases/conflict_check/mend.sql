alter table conflict_check.orders drop constraint short;
