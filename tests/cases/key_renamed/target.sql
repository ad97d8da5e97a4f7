create table key_renamed.orders (id int, line int, note text, primary key (id, line));
insert into key_renamed.orders select n / 2, n % 2, 'note ' || n from generate_series(1, 6) as n;
