-- Gives committed transactions of pgdetour.change their place in pgdetour.change_order; the last place that was given. To be sent
-- as one message, which is a transaction. No parameters.
--
-- Why this order can be applied. Call B dependent on A when B changed or relied on (a row, a unique key, a foreign key, a
-- truncated table) what A had changed before: B then waited for A's lock, or saw A's result, so A had left the list of
-- running transactions before B's statement went on, and B's trigger drew its ordinal later than A drew its last.
--   Across runs: a snapshot that shows B shows A, since A ended first. What a run places is what its snapshot shows, so A
--   is placed in the same run or an earlier one. A bound on xids would not do: A may have the larger xid.
--   Within a run: transactions are placed by their last ordinal, and A's last is smaller than B's.
--   Within a transaction: by ordinal, in which its triggers fired.
-- What a constraint looks at later than our trigger (a foreign key, a deferred unique key) may be committed by an A that drew
-- its ordinals after B's. Both are then of one run or in order, and touch different rows: any order gives the same rows.
-- Runs exclude each other by the lock, and each takes its snapshot behind it. Ranges between running transactions are
-- looked at one by one, so that rows which cannot be seen yet are not read over and over.
lock table pgdetour.change_order in share row exclusive mode;
with recursive bounds as (
    select
        pg_catalog.pg_snapshot_xmin(s.snapshot) as xmin,
        s.snapshot,
        (select h.horizon from pgdetour.change_state as h) as horizon
    from pg_catalog.pg_current_snapshot() as s (snapshot)
),

running as (
    select x.xid from bounds as b cross join lateral pg_catalog.pg_snapshot_xip(b.snapshot) as x (xid)
),

ranges as (
    select
        l.low,
        (
            select min(h.high::text::numeric)::text::xid8
            from (select r.xid from running as r union all select pg_catalog.pg_snapshot_xmax(b.snapshot)) as h (high)
            where h.high >= l.low
        ) as high
    from bounds as b
    cross join lateral (
        select b.horizon
        union all
        select (r.xid::text::numeric + 1)::text::xid8 from running as r
    ) as l (low)
),

found as (
    select f.xid, r.high
    from ranges as r
    cross join lateral (
        select c.xid from pgdetour.change as c where c.xid >= r.low and c.xid < r.high order by c.xid limit 1
    ) as f
    union all
    select n.xid, f.high
    from found as f
    cross join lateral (
        select c.xid from pgdetour.change as c where c.xid > f.xid and c.xid < f.high order by c.xid limit 1
    ) as n
),

fresh as (
    select
        f.xid,
        (select c.ordinal from pgdetour.change as c where c.xid = f.xid order by c.ordinal desc limit 1) as last_ordinal
    from found as f
    where not exists (select from pgdetour.change_order as o where o.xid = f.xid)
),

placed as (
    insert into pgdetour.change_order (xid)
    select f.xid from fresh as f order by f.last_ordinal
    returning position
)

update pgdetour.change_state
set horizon = b.xmin
from bounds as b
where exists (select from placed);

-- Not of the sequence: what it has drawn may be of a run that is not committed, or was rolled back.
select coalesce(max(o.position), 0) as position from pgdetour.change_order as o
