create table tables_joined.users (id int primary key, name text not null, email text);
create table tables_joined.profiles (
    user_id int primary key references tables_joined.users on update cascade on delete cascade,
    bio text, photo text, kind text not null
);
alter table tables_joined.profiles alter photo set storage external;
insert into tables_joined.users select n, 'User ' || n, n || '@example.org' from generate_series(1, 9) as n;
insert into tables_joined.profiles select n, 'Bio ' || n, repeat(n::text, 3000), 'plain' from generate_series(1, 6) as n;
