alter table conflict_unique.orders add constraint one_of_a_name unique (name);
