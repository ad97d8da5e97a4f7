alter table conflict_not_null.orders alter name drop not null;
