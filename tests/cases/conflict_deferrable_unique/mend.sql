delete from conflict_deferrable_unique.seats where id = 9;
alter table conflict_deferrable_unique.stays drop constraint apart;
