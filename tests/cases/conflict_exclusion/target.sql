create table conflict_exclusion.bookings (id int primary key, days int4range not null);
insert into conflict_exclusion.bookings values (1, '[1,5)'), (2, '[5,9)');
