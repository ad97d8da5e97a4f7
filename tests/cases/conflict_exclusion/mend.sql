alter table conflict_exclusion.bookings drop constraint apart;
