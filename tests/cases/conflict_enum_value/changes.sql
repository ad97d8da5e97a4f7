begin;
insert into conflict_enum_value.orders values (3, 'new');
update conflict_enum_value.orders set state = 'old' where id = 1;
commit;
