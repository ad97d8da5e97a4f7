-- Removes what create_observation has made, once no trigger calls it. No parameters.
drop function if exists pgdetour.observe();
drop function if exists pgdetour.observe_first(oid, text, text);
drop table if exists pgdetour.observation;
drop table if exists pgdetour.observed;
drop table if exists pgdetour.observed_kind;
do $$
declare
    counter regclass;
begin
    for counter in
        select c.oid
        from pg_class as c
        where c.relnamespace = to_regnamespace('pgdetour')
            and c.relkind = 'S'
            and c.relname ~ '^observed_(next|(count|last)_[0-9]+)$'
    loop
        execute format('drop sequence %s', counter);
    end loop;
end
$$;
