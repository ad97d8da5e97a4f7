create table table_split_by_condition.accounts (id int primary key, kind text, name text not null, notes text);
alter table table_split_by_condition.accounts alter notes set storage external;
insert into table_split_by_condition.accounts
select n, case n % 3 when 0 then 'company' when 1 then 'person' end, 'Account ' || n, repeat('n' || n, 1500)
from generate_series(1, 12) as n;
