-- What restrictions would have refused, the most frequent first. No parameters. A table that is gone by now has its oid.
select
    coalesce(n.nspname || '.' || c.relname, 'oid ' || all_of_it.table_oid) as table_name,
    pg_catalog.lower(all_of_it.verb) as verb,
    all_of_it.role_name,
    all_of_it.application_name,
    pg_catalog.sum(all_of_it.statements)::int8 as statements,
    pg_catalog.to_char(
        pg_catalog.min(all_of_it.first_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
    ) as first_at,
    pg_catalog.to_char(
        pg_catalog.max(all_of_it.last_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
    ) as last_at
from (
    select o.table_oid, o.verb, o.role_name, o.application_name, o.statements, o.first_at, o.last_at
    from pgdetour.observed as o
    union all
    select a.table_oid, a.verb, a.role_name, a.application_name, 1, a.happened_at, a.happened_at
    from pgdetour.observation as a
    union all
    select
        k.table_oid,
        k.verb,
        k.role_name,
        k.application_name,
        coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass('pgdetour.observed_count_' || k.counter)), 0),
        k.first_at,
        pg_catalog.to_timestamp(
            pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass('pgdetour.observed_last_' || k.counter)) / 1e6::float8
        )
    from pgdetour.observed_kind as k
) as all_of_it
left join pg_catalog.pg_class as c on c.oid = all_of_it.table_oid
left join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
group by 1, 2, 3, 4
order by statements desc, table_name, verb, all_of_it.role_name, all_of_it.application_name
