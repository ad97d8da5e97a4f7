begin;
truncate conflict_truncate.customers;
insert into conflict_truncate.customers values (4, 'after');
commit;
