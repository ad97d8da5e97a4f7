insert into columns_merged.people values (5, 'First5', 'Last5', 'short');
update columns_merged.people set last_name = 'Changed' where id = 1;
update columns_merged.people set first_name = 'Changed' where id = 2;
delete from columns_merged.people where id = 3;
