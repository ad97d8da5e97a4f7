-- Two columns become one.
alter table public.customers add full_name text;
update public.customers set full_name = first_name || ' ' || last_name;
alter table public.customers alter full_name set not null;
alter table public.customers drop first_name, drop last_name;
-- One gets another name, one another type.
alter table public.customers rename mail to email;
alter table public.customers alter created_at type timestamptz using created_at at time zone 'UTC';
-- What the application calls goes with them.
create or replace function public.rename_customer(customer bigint, first text, last text) returns void
language sql as 'update public.customers set full_name = first || '' '' || last where id = customer';
-- What cannot be done under traffic.
reindex table public.orders;
vacuum full public.customers;
vacuum full public.order_items;
