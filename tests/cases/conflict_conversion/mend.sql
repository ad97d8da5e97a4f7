create or replace function conflict_conversion.amount(value text) returns int language sql as $$ select case when value ~ '^\d+$' then value::int end $$;
alter table conflict_conversion.orders alter name type varchar(20);
