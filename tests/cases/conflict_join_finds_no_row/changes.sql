begin;
insert into conflict_join_finds_no_row.profiles values (2, 'Bio 2'), (3, 'Bio 3');
update conflict_join_finds_no_row.profiles set bio = 'changed' where id in (1, 2);
commit;
