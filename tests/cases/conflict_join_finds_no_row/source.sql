-- The maintenance joins both, and takes a user away.
create table conflict_join_finds_no_row.people (id int primary key, name text not null, bio text);
insert into conflict_join_finds_no_row.people
select id, name, bio from conflict_join_finds_no_row.users left join conflict_join_finds_no_row.profiles using (id);
drop table conflict_join_finds_no_row.profiles, conflict_join_finds_no_row.users;
delete from conflict_join_finds_no_row.people where id = 2;
