-- Replay lets go of changes of a table, which the source does not get: noted of the topmost one that it is a partition of, or of
-- itself. $1 oid
update pgdetour.recorded
set passed_over = true
where not passed_over
    and relation in (
        select k.root from pgdetour.recorded as k where k.relation = $1
        union all
        select pg_catalog.pg_partition_root($1::pg_catalog.oid)
    )
