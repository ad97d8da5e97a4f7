begin;
update conflict_deferrable_unique.seats set place = 30 - place where id in (1, 2);
insert into conflict_deferrable_unique.stays values (3, '[20,30)');
update conflict_deferrable_unique.seats set place = 90 where id = 3;
insert into conflict_deferrable_unique.seats values (4, 40);
insert into conflict_deferrable_unique.stays values (4, '[4,6)');
commit;
