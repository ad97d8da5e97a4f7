insert into tables_united.cats values (5, 'Cat 5', 7);
insert into tables_united.dogs values (5, 'Dog 5', null);
update tables_united.cats set lives = lives - 1 where id <= 2;
update tables_united.dogs set tricks = 'roll', id = 40 where id = 4;
delete from tables_united.cats where id = 3;
delete from tables_united.dogs where id = 3;
truncate tables_united.dogs;
insert into tables_united.dogs values (7, 'Dog 7', 'sit');
