begin;
insert into keys_to_bigint.orders (note) values ('note 5');
insert into keys_to_bigint.lines values (5, 1), (5, 2);
commit;
update keys_to_bigint.lines set line = 7 where order_id = 1;
delete from keys_to_bigint.orders where id = 2;
