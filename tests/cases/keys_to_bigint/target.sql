create table keys_to_bigint.orders (id int generated always as identity primary key, note text);
create table keys_to_bigint.lines (order_id int references keys_to_bigint.orders on delete cascade, line int, primary key (order_id, line));
insert into keys_to_bigint.orders (note) select 'note ' || n from generate_series(1, 4) as n;
insert into keys_to_bigint.lines select id, 1 from keys_to_bigint.orders;
