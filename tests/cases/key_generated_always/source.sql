alter table key_generated_always.notes
    alter id add generated always as identity (start 1000),
    add seen boolean not null default false,
    add twice int generated always as (stars * 2) stored;
update key_generated_always.notes set seen = true, body = md5(body);
