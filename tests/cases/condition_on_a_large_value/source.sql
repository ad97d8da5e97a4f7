create table condition_on_a_large_value.kept (id int generated always as identity primary key, body text, stars int not null, seen boolean not null default false);
insert into condition_on_a_large_value.kept overriding system value select id, md5(body), stars, true from condition_on_a_large_value.notes where body like 'kept%';
drop table condition_on_a_large_value.notes;
