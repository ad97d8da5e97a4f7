-- Tables without statistics, or with such as are older than a tenth of their rows. No parameters.
-- The planner's statistics are not part of a copy or of a flow.
select n.nspname::text as schema_name, c.relname::text as table_name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_stat_all_tables as s on s.relid = c.oid
where c.relkind in ('r', 'm')
    and c.relpersistence <> 't'
    and n.nspname not in ('pg_catalog', 'information_schema', 'pgdetour')
    and pg_catalog.pg_relation_size(c.oid) > 0
    and (
        s.n_mod_since_analyze > 50 + 0.1 * greatest(c.reltuples, 0)
        or (
            coalesce(s.last_analyze, s.last_autoanalyze) is null
            and not exists (
                select from pg_catalog.pg_stats as p where p.schemaname = n.nspname and p.tablename = c.relname
            )
        )
    )
order by n.nspname, c.relname
