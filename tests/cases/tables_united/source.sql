create table tables_united.pets (
    kind text, id int, name text not null, lives int, tricks text, primary key (kind, id)
);
insert into tables_united.pets (kind, id, name, lives) select 'cat', id, name, lives from tables_united.cats;
insert into tables_united.pets (kind, id, name, tricks) select 'dog', id, name, tricks from tables_united.dogs;
drop table tables_united.cats, tables_united.dogs;
