drop trigger keep on conflict_refused_by_a_trigger.orders;
