-- Lets this session decode without going to disk for longer: in as much memory as shared_buffers has, at most 512 MB, and with 64 MB for what
-- it answers; and lets it notice when its client is gone. Settings that the server does not know stay out. No parameters.
select pg_catalog.set_config(w.name, w.value, false)
from (
    select
        'logical_decoding_work_mem' as name,
        least(b.setting::int8 * pg_catalog.current_setting('block_size')::int8 / 1024, 524288)::text as value
    from pg_catalog.pg_settings as b
    where b.name = 'shared_buffers'
    union all
    values ('work_mem', '65536')
) as w
join pg_catalog.pg_settings as s on s.name = w.name and s.setting::int8 < w.value::int8
union all
select pg_catalog.set_config(s.name, '1000', false)
from pg_catalog.pg_settings as s
where s.name = 'client_connection_check_interval' and s.setting = '0'
    and pg_catalog.version() !~* 'visual|mingw'
