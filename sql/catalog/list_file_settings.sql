-- What the server's configuration files say of settings, and it has taken over. $1 text[]: names. Only for who may read them.
select distinct on (f.name) f.name, f.setting as value
from pg_catalog.pg_show_all_file_settings() as f
where f.applied and f.name = any ($1)
order by f.name, f.seqno desc
