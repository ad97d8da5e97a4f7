-- The maintenance adds a rule that a trigger keeps, also in replication, with a code of its own.
create function conflict_refused_by_a_trigger.keep() returns trigger language plpgsql as $$
begin
    if new.amount < 0 then raise exception 'an amount is never negative' using errcode = 'SHP01'; end if;
    return new;
end $$;
create trigger keep before insert or update on conflict_refused_by_a_trigger.orders
    for each row execute function conflict_refused_by_a_trigger.keep();
alter table conflict_refused_by_a_trigger.orders enable always trigger keep;
