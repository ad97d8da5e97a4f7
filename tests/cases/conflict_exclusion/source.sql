alter table conflict_exclusion.bookings add constraint apart exclude using gist (days with &&);
