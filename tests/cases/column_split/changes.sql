insert into column_split.people values (4, 'Alan Turing');
update column_split.people set full_name = 'Ada King' where id = 1;
update column_split.people set full_name = 'Hopper' where id = 2;
delete from column_split.people where id = 3;
