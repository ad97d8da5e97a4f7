alter table key_renamed.orders rename id to order_number;
alter table key_renamed.orders rename line to line_number;
