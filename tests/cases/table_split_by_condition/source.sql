create table table_split_by_condition.companies as
    select id, name, md5(notes) as notes from table_split_by_condition.accounts where kind = 'company';
create table table_split_by_condition.persons as
    select id, upper(name) as name, md5(notes) as notes, 0 as visits
    from table_split_by_condition.accounts where kind = 'person';
alter table table_split_by_condition.companies add primary key (id);
alter table table_split_by_condition.persons add primary key (id), alter visits set default 0;
drop table table_split_by_condition.accounts;
