create table key_generated_always.notes (id int primary key, body text, stars int not null);
alter table key_generated_always.notes alter body set storage external;
insert into key_generated_always.notes select n, repeat('long ', 500), n from generate_series(1, 5) as n;
