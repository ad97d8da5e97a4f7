create domain domain_dropped.positive as int check (value > 0);
create domain domain_dropped.tiny as domain_dropped.positive check (value < 1000);
create domain domain_dropped.short as varchar(9);
create table domain_dropped.items (id domain_dropped.tiny primary key, amount domain_dropped.tiny not null, name domain_dropped.short);
insert into domain_dropped.items select n, n * 10, 'item ' || n from generate_series(1, 4) as n;
