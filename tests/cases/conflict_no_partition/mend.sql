create table conflict_no_partition.events_2025 partition of conflict_no_partition.events for values from ('2025-01-01') to ('2026-01-01');
