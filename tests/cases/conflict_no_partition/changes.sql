begin;
insert into conflict_no_partition.events values (3, '2024-03-01'), (4, '2025-03-01');
commit;
