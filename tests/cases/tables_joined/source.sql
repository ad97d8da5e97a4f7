create table tables_joined.people (
    id int primary key, full_name text not null, email text, bio text, photo_length int, kind text not null default 'none'
);
insert into tables_joined.people
select id, name, email, bio, length(photo), coalesce(kind, 'none')
from tables_joined.users left join tables_joined.profiles on user_id = id;
drop table tables_joined.profiles, tables_joined.users;
