alter table look_ups_in_replayed_tables.orders add rate int;
update look_ups_in_replayed_tables.orders as o
set rate = c.rate
from look_ups_in_replayed_tables.countries as c where c.code = o.country;
alter table look_ups_in_replayed_tables.orders drop country;
alter table look_ups_in_replayed_tables.folders add path text;
update look_ups_in_replayed_tables.folders set path = name;
-- Its body is text, in which a name is all that tells of the table.
create function look_ups_in_replayed_tables.path_of(above int, its_name text) returns text language plpgsql stable as $$
begin
    return coalesce((select f.path || '/' from look_ups_in_replayed_tables.folders as f where f.id = above), '') || its_name;
end $$;
