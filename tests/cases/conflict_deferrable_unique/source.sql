alter table conflict_deferrable_unique.seats add constraint one_place unique (place) deferrable;
alter table conflict_deferrable_unique.stays add constraint apart exclude using gist (days with &&) deferrable initially deferred;
insert into conflict_deferrable_unique.seats values (9, 90);
