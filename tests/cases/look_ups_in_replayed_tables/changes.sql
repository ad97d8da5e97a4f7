insert into look_ups_in_replayed_tables.countries values ('FR', 20);
update look_ups_in_replayed_tables.orders set country = 'FR' where id = 1;
begin;
insert into look_ups_in_replayed_tables.countries values ('IT', 22);
update look_ups_in_replayed_tables.orders set country = 'IT' where id = 2;
insert into look_ups_in_replayed_tables.orders values (4, 'IT', 40);
commit;
-- The rate of before, then that of now.
update look_ups_in_replayed_tables.orders set amount = 31 where id = 3;
update look_ups_in_replayed_tables.countries set rate = 16 where code = 'DE';
update look_ups_in_replayed_tables.orders set amount = 32 where id = 3;
insert into look_ups_in_replayed_tables.folders values (2, 1, 'bin'), (3, 2, 'new');
begin;
update look_ups_in_replayed_tables.folders set name = 'sbin' where id = 2;
update look_ups_in_replayed_tables.folders set up = 2 where id = 3;
commit;
