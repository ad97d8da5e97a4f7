begin;
update conflict_other_key_is_referred_to.goods set name = 'fits' where id = 3;
update conflict_other_key_is_referred_to.goods set code = 'fits' where id = 4;
delete from conflict_other_key_is_referred_to.goods where id = 5;
delete from conflict_other_key_is_referred_to.goods where id = 1;
update conflict_other_key_is_referred_to.goods set code = 'changed' where id = 2;
commit;
