//! Large sets between two databases of a real server: what goes by COPY, by count, by foreign keys, and what is rewritten.

use super::test_pair::{Pair, drain, rule};
use crate::phase::Side;

#[test]
fn large_sets_arrive_with_every_kind_of_value() {
    let old = "
        create domain public.short as text check (length(value) < 400);
        create table public.v (id int primary key, txt text, b bytea, a text[], j jsonb, s public.short, c char(5), large text);
        create table public.m (id int primary key, first text, last text, n int, unused text)";
    let new = "
        create domain public.short as text check (length(value) < 400);
        create table public.v (id int primary key, txt text, b bytea, a text[], j jsonb, s public.short, c char(5), large text);
        create table public.m (id bigint primary key, name text not null, twice bigint, n int, own text default 'own')";
    let pair = Pair::new(old, new);
    let mut flow = pair.flow(&[rule(
        "public.m",
        "public.m",
        &[],
        &[("name", "first || E'\\t' || last"), ("twice", "n * 2::bigint")],
        &["first", "last", "unused"],
    )]);
    let compare = || {
        pair.assert_equal("select * from v");
        assert_eq!(
            pair.rows(Side::Source, "select id::bigint, first || E'\\t' || last, n * 2::bigint, n from m"),
            pair.rows(Side::Target, "select id, name, twice, n from m")
        );
    };
    pair.source(
        "insert into v select g, case g % 5 when 0 then null when 1 then '' when 2 then E'\\t\\\\N\\n\\r' when 3 then '\\.' else 'ä' || g end,
            decode(md5(g::text), 'hex'), array[E'a\\tb', null, '\\N'], jsonb_build_object(E'k\\n', g), repeat(E'\\\\', g % 300), 'x', repeat('l', g % 50)
            from generate_series(1, 1000) g;
         insert into m select g, E'f\\\\' || g, 'l', g, 'u' from generate_series(1, 1000) g;
         update v set txt = txt || E'\\n', s = s || E'\\t' where id <= 600;
         update m set last = E'\\\\l', n = -n where id > 300;
         update v set large = repeat(md5(id::text), 200) where id > 700;
         update v set c = 'y' where id > 500;
         delete from v where id between 200 and 450;
         delete from m where id between 200 and 450;",
    );
    let applied = drain(&flow).unwrap();
    assert!(applied.reached && applied.replica_role, "{applied:?}");
    compare();
    // In parts of one transaction, so that a temporary table is filled more than once before it is committed; and once more
    // after a conflict has rolled back the one that made it.
    flow.batch_bytes = 100_000;
    pair.source("begin; update m set n = n + 1; update v set c = 'z'; delete from m where id < 50; update m set last = 'x'; commit");
    pair.target("delete from m where id = 777");
    assert_eq!(drain(&flow).unwrap_err().kind(), "update_missing");
    pair.target("insert into m select 777, 'l', 1, 1");
    drain(&flow).unwrap();
    compare();
    assert_eq!(pair.rows(Side::Target, "select distinct own from m"), ["(own)"]);
    pair.source("update m set n = 5");
    drain(&flow).unwrap();
    compare();
}

#[test]
fn equal_rows_without_a_key_are_counted() {
    let tables = "create table bag (a int, j json, txt text); alter table bag replica identity full";
    let pair = Pair::new(tables, tables);
    let flow = pair.flow(&[]);
    pair.source("insert into bag select g % 10, '{\"a\":1}', case when g % 3 = 0 then null else '' end from generate_series(1, 900) g");
    drain(&flow).unwrap();
    pair.source(
        "delete from bag where ctid in (select ctid from bag where a = 1 order by ctid limit 50);
         update bag set a = 100 where a = 2;
         begin; update bag set a = 200 where a = 3; update bag set a = 300 where a = 200; update bag set a = 3 where a = 300; commit;
         insert into bag select 4, '{\"a\":1}', '' from generate_series(1, 300);
         delete from bag where ctid in (select min(ctid) from bag group by a, txt);
         update bag set txt = 'x' where a in (5, 100)",
    );
    let applied = drain(&flow).unwrap();
    assert!(applied.reached);
    pair.assert_equal("select a, j::text, txt from bag");
    // One too few of its kind: only the order can tell which change does not fit.
    pair.target("delete from bag where ctid = (select min(ctid) from bag where a = 6 and txt = '')");
    pair.source("insert into bag values (7, 'null', 'good'); delete from bag where a = 6");
    assert_eq!(drain(&flow).unwrap_err().kind(), "delete_missing");
    assert_eq!(pair.rows(Side::Target, "select count(*) from bag where txt = 'good'"), ["(1)"]);
}

#[test]
fn unique_values_may_wander_from_row_to_row() {
    let tables = "create table u (id int primary key, v int unique, w text)";
    let pair = Pair::new(tables, tables);
    let flow = pair.flow(&[]);
    pair.source("insert into u select g, g, repeat('w', g) from generate_series(1, 500) g");
    drain(&flow).unwrap();
    pair.source(
        "begin; update u set v = -v; update u set v = (-v) % 500 + 1; commit;
         begin; update u set v = null where id = 1; update u set v = 2 where id = 500; update u set v = 1 where id = 1; commit;
         begin; update u set id = -id where id <= 300; update u set id = 301 + id where id < 0; commit",
    );
    drain(&flow).unwrap();
    pair.assert_equal("select * from u");
}

#[test]
fn without_the_replica_role_tables_go_in_the_order_of_foreign_keys() {
    let tables = "
        create table z_root (id int primary key, code text unique);
        create table m_mid (id int primary key, root int not null references z_root, v int);
        create table a_leaf (id int primary key, mid int references m_mid on delete cascade, up int references a_leaf);
        create table z_line (root int references z_root on update cascade on delete cascade, n int, v text, primary key (root, n));
        create table ring_a (id int primary key, b int); create table ring_b (id int primary key, a int references ring_a);
        alter table ring_a add foreign key (b) references ring_b deferrable initially deferred";
    let own = "create table note (root int references z_root on update cascade on delete cascade, text text)";
    let mut pair = Pair::new(
        tables,
        &format!(
            "{tables}; {own}; grant all on all tables in schema public, pgdetour to writer; grant usage on schema pgdetour to writer"
        ),
    );
    pair.subscriber_role = "writer";
    let flow = pair.flow(&[]);
    let compare = || {
        for table in ["z_root", "z_line", "m_mid", "a_leaf", "ring_a", "ring_b"] {
            pair.assert_equal(&format!("select * from {table}"));
        }
    };
    pair.source(
        "insert into z_root select g, 'c' || g from generate_series(1, 400) g;
         insert into m_mid select g, g, 0 from generate_series(1, 400) g;
         insert into a_leaf select g, g, nullif(g - 1, 0) from generate_series(1, 400) g;
         begin; insert into ring_a values (1, 1); insert into ring_b values (1, 1); commit",
    );
    let applied = drain(&flow).unwrap();
    assert!(!applied.replica_role);
    compare();
    pair.target("insert into note select id, 'n' from z_root");
    pair.source(
        "insert into z_root values (1000, 'new'); insert into m_mid values (1000, 1000, 1); update m_mid set root = 1000 where id <= 100;
         update a_leaf set mid = 1000, up = null where id <= 250; delete from m_mid where id between 101 and 250;
         delete from z_root where id between 1 and 50; delete from z_root where id between 101 and 250;
         insert into z_root values (1, 'c1');
         update m_mid set v = v + 1; delete from a_leaf where id > 390; delete from m_mid where id between 396 and 400;
         begin; update ring_b set a = null; delete from ring_a; delete from ring_b; insert into ring_a values (2, 2); insert into ring_b values (2, 2); commit;
         update z_root set id = 5000 where id = 60",
    );
    drain(&flow).unwrap();
    compare();
    let notes = "select count(*) as n, count(*) filter (where root = 5000) as moved, count(*) filter (where root = 1) as gone from note";
    assert_eq!(
        pair.rows(Side::Target, notes),
        ["(200,1,0)"],
        "what refers to a row goes with it, as in order"
    );
    pair.source(
        "insert into z_root select g, 'l' || g from generate_series(2001, 2005) g;
         insert into z_line select g, n, 'x' from generate_series(2001, 2005) g, generate_series(1, 2) n;
         update z_root set id = id + 6000 where id between 2001 and 2003;
         begin; update z_root set id = 9000 where id = 2004; update z_line set v = 'y' where root = 9000; commit",
    );
    drain(&flow).unwrap();
    compare();
    pair.source("update z_line set n = 9 where root = 2005 and n = 1");
    pair.target("delete from z_line where root = 2005 and n = 1");
    assert_eq!(drain(&flow).unwrap_err().kind(), "update_missing", "neither is there");
}

#[test]
fn what_refers_to_a_row_stays_where_the_row_goes_to_another_partition() {
    let partitions =
        "create table p1 partition of p for values in (1); create table p2 partition of p for values in (2);
        create table p3 partition of p for values in (3)";
    let parent = "create table p (id int, k int, primary key (id, k))";
    let child = "create table child (id int primary key, pid int, pk int,
        foreign key (pid, pk) references p on update cascade on delete cascade)";
    let own = "create table note (pid int, pk int, foreign key (pid, pk) references p on update cascade on delete cascade)";
    let grants = "grant all on all tables in schema public, pgdetour to writer; grant usage on schema pgdetour to writer";
    for target in [format!("{parent} partition by list (k); {partitions}"), parent.to_owned()] {
        let source = format!("{parent} partition by list (k); {partitions}; {child}");
        let mut pair = Pair::new(&source, &format!("{target}; {child}; {own}; {grants}"));
        pair.subscriber_role = "writer";
        let is_one_table = target == parent;
        let flow =
            pair.flow(&if is_one_table { vec![rule("public.p", "public.p", &[], &[], &[])] } else { vec![] });
        pair.source(
            "insert into p select g, 1 from generate_series(1, 9) g; insert into child select g, g, 1 from generate_series(1, 9) g",
        );
        drain(&flow).unwrap();
        pair.target("insert into note select id, k from p");
        pair.source(
            "update p set k = 2 where id in (2, 3); begin; update p set k = 3 where id = 1; update p set k = 1 where id = 1; commit;
             update p set k = 3 where id in (3, 4); delete from p where id = 9",
        );
        drain(&flow).unwrap();
        for table in ["p", "child"] {
            pair.assert_equal(&format!("select * from {table}"));
        }
        let notes = pair.rows(Side::Target, "select count(*) from note join p on (id, k) = (pid, pk)");
        assert_eq!(notes, ["(8)"], "one table: {is_one_table}");
    }
}
