insert into key_retyped.articles values (6, 'note 6');
update key_retyped.articles set note = 'changed' where id = 1;
update key_retyped.articles set id = 20 where id = 2;
delete from key_retyped.articles where id = 3;
begin;
update key_retyped.articles set id = 99 where id = 4;
update key_retyped.articles set id = 4 where id = 5;
update key_retyped.articles set id = 5 where id = 99;
commit;
