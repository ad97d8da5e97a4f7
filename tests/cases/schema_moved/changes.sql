insert into schema_moved.orders values (4, 'note 4');
update schema_moved.orders set note = 'changed' where id = 1;
delete from schema_moved.orders where id = 2;
