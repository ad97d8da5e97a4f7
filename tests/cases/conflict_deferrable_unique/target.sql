create table conflict_deferrable_unique.seats (id int primary key, place int);
create table conflict_deferrable_unique.stays (id int primary key, days int4range);
insert into conflict_deferrable_unique.seats values (1, 10), (2, 20), (3, 30);
insert into conflict_deferrable_unique.stays values (1, '[1,5)'), (2, '[5,9)');
