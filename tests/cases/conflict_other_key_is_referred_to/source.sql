-- The maintenance has prices refer to goods by a column that is not the key.
create table conflict_other_key_is_referred_to.prices (
    code text references conflict_other_key_is_referred_to.goods (code), price int
);
insert into conflict_other_key_is_referred_to.prices values ('code 1', 1), ('code 2', 2), ('code 3', 3);
