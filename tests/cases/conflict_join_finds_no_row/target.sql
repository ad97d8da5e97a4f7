create table conflict_join_finds_no_row.users (id int primary key, name text not null);
create table conflict_join_finds_no_row.profiles (
    id int primary key references conflict_join_finds_no_row.users on delete cascade, bio text
);
insert into conflict_join_finds_no_row.users select n, 'User ' || n from generate_series(1, 4) as n;
insert into conflict_join_finds_no_row.profiles values (1, 'Bio 1');
