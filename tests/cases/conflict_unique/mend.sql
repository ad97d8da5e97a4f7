alter table conflict_unique.orders drop constraint one_of_a_name;
