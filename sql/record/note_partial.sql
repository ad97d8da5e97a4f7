-- Notes what is hashed so far of a table. $1 text: its name; $2 jsonb: what
insert into pgdetour.verified (table_name, partial)
select $1, $2 || pg_catalog.jsonb_build_object('phase', d.phase) from pgdetour.detour as d
on conflict (table_name) do update set partial = excluded.partial
