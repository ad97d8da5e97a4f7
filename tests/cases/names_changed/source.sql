alter table names_changed.customers rename to "People";
alter table names_changed."People" rename name to "Full Name";
alter table names_changed."People" rename mail to email;
