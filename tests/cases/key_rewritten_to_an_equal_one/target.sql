create collation key_rewritten_to_an_equal_one.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table key_rewritten_to_an_equal_one.prices (price numeric primary key, kind text not null, note text);
create table key_rewritten_to_an_equal_one.names (name text collate key_rewritten_to_an_equal_one.caseless primary key, kind text not null);
insert into key_rewritten_to_an_equal_one.prices values (1.0, 'old', 'one'), (2.0, 'new', 'two'), (3.0, 'old', 'three');
insert into key_rewritten_to_an_equal_one.names values ('ann', 'old'), ('bob', 'new');
