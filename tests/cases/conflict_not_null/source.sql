alter table conflict_not_null.orders alter name set not null;
