create function conflict_conversion.amount(value text) returns int language sql as 'select value::int';
alter table conflict_conversion.orders alter amount type int using conflict_conversion.amount(amount), alter name type varchar(8);
