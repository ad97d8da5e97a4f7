update key_generated_always.notes set id = 101 where id = 1;
update key_generated_always.notes set id = 102, stars = 0 where id = 2;
begin;
update key_generated_always.notes set id = 103 where id = 3;
update key_generated_always.notes set id = 203, stars = 1 where id = 103;
delete from key_generated_always.notes where id = 4;
update key_generated_always.notes set id = 4 where id = 5;
commit;
