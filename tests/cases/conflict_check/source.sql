alter table conflict_check.orders add constraint short check (length(name) < 10);
