insert into columns_retyped.readings values (5, '2024-07-01 10:00', '-3.25', null, 0, null);
update columns_retyped.readings set degrees = '1e2', tags = 'x', flag = 7 where id = 1;
update columns_retyped.readings set code = 99 where id = 2;
delete from columns_retyped.readings where id = 3;
