alter table keys_to_bigint.orders alter id type bigint;
alter table keys_to_bigint.lines alter order_id type bigint, alter line type bigint;
