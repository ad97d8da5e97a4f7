create table key_retyped.articles (id int primary key, note text);
insert into key_retyped.articles select n, 'note ' || n from generate_series(1, 5) as n;
