-- Notes what is hashed so far of a table. $1 text: its name; $2 jsonb: what
insert into pgdetour.verified (table_name, partial) values ($1, $2)
on conflict (table_name) do update set partial = excluded.partial, compared_at = pg_catalog.clock_timestamp()
