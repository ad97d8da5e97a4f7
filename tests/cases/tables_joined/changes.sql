-- All profiles are emptied, and made again.
begin;
truncate tables_joined.profiles;
insert into tables_joined.profiles select n, 'Bio ' || n, repeat(n::text, 3000), 'again' from generate_series(1, 6) as n;
commit;
insert into tables_joined.users values (20, 'User 20', null);
insert into tables_joined.profiles values (20, 'Bio 20', null, 'new');
insert into tables_joined.profiles values (7, 'Bio 7', 'photo', 'new');
update tables_joined.profiles set bio = 'changed' where user_id = 3;
update tables_joined.users set name = 'changed' where id = 3;
delete from tables_joined.profiles where user_id = 1;
-- With its profile.
delete from tables_joined.users where id = 2;
update tables_joined.users set id = 40 where id = 4;
-- A profile goes from one user to another, with the photo that is not sent again.
update tables_joined.profiles set user_id = 8 where user_id = 5;
-- Another user of the same number, and another profile.
begin;
delete from tables_joined.users where id = 6;
insert into tables_joined.users values (6, 'Another', 'six@example.org');
insert into tables_joined.profiles values (6, 'Another', '', 'other');
commit;
-- Nothing in a profile that would tell it from none.
insert into tables_joined.profiles values (9, null, null, 'none');
