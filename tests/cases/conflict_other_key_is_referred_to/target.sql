create table conflict_other_key_is_referred_to.goods (id int primary key, code text unique, name text);
insert into conflict_other_key_is_referred_to.goods select n, 'code ' || n, 'name ' || n from generate_series(1, 6) as n;
