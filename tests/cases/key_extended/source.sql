alter table key_extended.orders add tenant int not null default 1, add region text;
update key_extended.orders set region = case when id % 2 = 0 then 'even' else 'odd' end;
alter table key_extended.orders drop constraint orders_pkey, add primary key (tenant, region, id), alter tenant drop default;
