create table expressions_look_up.countries (code text primary key, name text not null unique, tax numeric not null);
insert into expressions_look_up.countries values ('DE', 'Germany', 0.19), ('FR', 'France', 0.2), ('IT', 'Italy', 0.22);
create function expressions_look_up.with_tax(amount numeric, country text) returns numeric language sql stable
    return amount * (1 + (select c.tax from expressions_look_up.countries as c where c.name = country));
alter table expressions_look_up.orders add code text references expressions_look_up.countries, add gross numeric;
update expressions_look_up.orders as o
set code = c.code, gross = expressions_look_up.with_tax(o.amount, o.country)
from expressions_look_up.countries as c where c.name = o.country;
alter table expressions_look_up.orders drop country, alter code set not null;
