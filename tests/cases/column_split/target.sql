create table column_split.people (id int primary key, full_name text not null);
insert into column_split.people values (1, 'Ada Lovelace'), (2, 'Grace Hopper'), (3, 'Plato');
