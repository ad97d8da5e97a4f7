begin;
insert into conflict_exclusion.bookings values (3, '[20,30)');
insert into conflict_exclusion.bookings values (4, '[4,6)');
commit;
