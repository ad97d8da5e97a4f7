//! What does not fit is set aside in its order, everything else arrives, and nothing is lost by either.

use super::quarantine::{self, Quarantined};
use super::test_pair::{Pair, drain, rule};
use crate::flow::mapping::MapRule;
use crate::flow::{Flow, FlowName};
use crate::phase::Side;
use crate::sql;

/// A pair whose subscriber sets aside what does not fit.
fn pair_with_quarantine(source: &str, target: &str, rules: &[MapRule]) -> (Pair, Flow) {
    let pair = Pair::new(source, target);
    pair.target(sql::record::CREATE_SOURCE.text);
    let flow = Flow { quarantine: true, ..pair.flow(rules) };
    (pair, flow)
}

fn set_aside(pair: &Pair) -> Vec<Quarantined> {
    quarantine::list(&mut pair.session(Side::Target), 0, None, 10_000).unwrap()
}

/// `table operation kind key` of all that is set aside.
fn told(pair: &Pair) -> Vec<String> {
    let line = |entry: &Quarantined| {
        let key = entry.key.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        let after = entry.key_after.as_ref().map_or_else(String::new, |key| format!(" {key}"));
        format!("{} {} {} {key}{after}", entry.table, entry.operation, entry.kind)
    };
    set_aside(pair).iter().map(line).collect()
}

const T: &str = "create table t (id int primary key, v int unique, note text)";

#[test]
fn what_does_not_fit_waits_in_order_and_the_rest_goes_on() {
    let new = "create table people (id int primary key, v int unique, label text, constraint small check (v < 1000))";
    let map = rule("public.t", "public.people", &[], &[("label", "'<' || note || '>'")], &[]);
    let (pair, mut flow) = pair_with_quarantine(T, new, &[map]);
    pair.source("insert into t select g, g, 'n' || g from generate_series(1, 20) g");
    drain(&flow).unwrap();
    pair.target(
        "delete from people where id in (1, 2); insert into people values (100, 100, 'own'); update people set id = 55 where id = 5",
    );
    pair.source(
        "begin; update t set note = 'a' where id = 1; update t set note = 'b' where id = 3; commit;
         delete from t where id = 2;
         insert into t values (100, 1100, 'theirs');
         update t set v = 2000 where id = 4;
         update t set note = 'four' where id = 4;
         update t set id = 200 where id = 1;
         update t set note = 'c' where id = 200;
         update t set note = 'd' where id = 6;
         begin; insert into t values (300, 300, null); update t set id = 5000 where id = 300; commit",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(
        (applied.conflicts, applied.changes),
        (4, 4),
        "what waits behind another is not applied either"
    );
    let waiting = [
        r#"public.t update update_missing {"id":"1"}"#,
        r#"public.t delete delete_missing {"id":"2"}"#,
        r#"public.t insert check {"id":"100"}"#,
        r#"public.t update check {"id":"4"}"#,
        r#"public.t update follows {"id":"4"}"#,
        r#"public.t update follows {"id":"1"} {"id":"200"}"#,
        r#"public.t update follows {"id":"200"}"#,
    ];
    assert_eq!(told(&pair), waiting);
    let entries = set_aside(&pair);
    assert_eq!(entries[2].sqlstate.as_deref(), Some("23514"));
    assert_eq!(entries[2].constraint.as_deref(), Some("small"));
    assert_eq!(
        entries[2].mapped,
        Some(serde_json::json!({"public.people": {"id": "100", "v": "1100", "label": "<theirs>"}}))
    );
    assert_eq!(entries[2].new_row, Some(serde_json::json!({"id": "100", "v": "1100", "note": "theirs"})));
    assert_eq!(entries[1].old_row, Some(serde_json::json!({"id": "2"})));
    assert_eq!(
        pair.rows(Side::Target, "select id, label from people where id in (3, 6, 5000) order by 1"),
        ["(3,<b>)", "(5000,)", "(6,<d>)"],
        "what has to do with no conflict has arrived"
    );

    // In a later run, and in parts of a transaction that is larger than a batch, what is held stays held.
    flow.batch_bytes = 500;
    pair.source("begin; update t set note = 'e' where id = 4; update t set note = 'f' where id > 6 and id < 21; commit; delete from t where id = 100");
    assert_eq!(drain(&flow).unwrap().conflicts, 0);
    assert_eq!(
        told(&pair)[7..],
        [r#"public.t update follows {"id":"4"}"#, r#"public.t delete follows {"id":"100"}"#]
    );

    // One by one only in the order of the row, all in theirs.
    let ids: Vec<i64> = set_aside(&pair).iter().map(|entry| entry.id).collect();
    assert_eq!(quarantine::retry(&flow, Some(ids[4])).unwrap_err().kind(), "quarantine_order");
    assert_eq!(quarantine::retry(&flow, Some(12_345)).unwrap_err().kind(), "not_quarantined");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 0, "nothing has been mended");
    assert_eq!(set_aside(&pair)[0].attempts, 2);
    pair.target("insert into people values (1, 1, '<n1>'); delete from people where id = 100");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 3, "the row 1 and its way to 200");
    assert_eq!(pair.rows(Side::Target, "select id, label from people where id in (1, 200)"), ["(200,<c>)"]);
    assert_eq!(quarantine::skip(&mut pair.session(Side::Target), Some(ids[1])).unwrap(), 1);
    pair.target("alter table people drop constraint small; update people set id = 5 where id = 55");
    assert_eq!(quarantine::retry(&flow, Some(ids[2])).unwrap(), 1);
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 4);
    assert_eq!(told(&pair), [""; 0]);
    assert_eq!(
        pair.rows(Side::Source, "select id, v, '<' || note || '>' from t"),
        pair.rows(Side::Target, "select id, v, label from people")
    );
}

#[test]
fn tables_without_keys_and_truncate_are_held_whole() {
    let tables = "create table bag (a int); alter table bag replica identity full; create table t (id int primary key);
                  create table log (line text);
                  create table p (id int, k int, v text, primary key (id, k)) partition by list (k);
                  create table p1 partition of p for values in (1); create table p2 partition of p for values in (2)";
    let beside = format!("{tables}; alter table p add extra text default 'lost'");
    let (pair, flow) = pair_with_quarantine(tables, &beside, &[]);
    pair.source(
        "insert into bag values (1), (2); insert into t values (1), (2), (3); insert into log values ('x')",
    );
    drain(&flow).unwrap();
    pair.target(
        "delete from bag where a = 1; delete from t where id = 1; alter table log add check (line <> 'no')",
    );
    pair.source(
        "update bag set a = 10 where a = 1; insert into bag values (3);
         delete from t where id = 1; insert into t values (1); insert into t values (4);
         insert into log values ('no'); truncate log, t; insert into t values (1), (9)",
    );
    let applied = drain(&flow).unwrap();
    assert_eq!(applied.conflicts, 3);
    // The TRUNCATE waits with the log, whose rows cannot be told apart, and takes table t along: both in its order.
    assert_eq!(
        told(&pair),
        [
            "public.bag update update_missing all",
            "public.bag insert follows all",
            r#"public.t delete delete_missing {"id":"1"}"#,
            r#"public.t insert follows {"id":"1"}"#,
            "public.log insert check all",
            "public.log truncate follows all",
            "public.t truncate follows all",
            r#"public.t insert follows {"id":"1"}"#,
            r#"public.t insert follows {"id":"9"}"#,
        ]
    );
    pair.target("insert into bag values (1); insert into t values (1)");
    quarantine::retry(&flow, None).unwrap();
    assert_eq!(told(&pair), ["public.log insert check all", "public.log truncate follows all"]);
    let log = set_aside(&pair)[0].id;
    quarantine::skip(&mut pair.session(Side::Target), Some(log)).unwrap();
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 1);
    for table in ["bag", "t", "log"] {
        pair.assert_equal(&format!("select * from {table}"));
    }

    // A TRUNCATE that fits leaves nothing to do for what waited before it.
    pair.target("delete from t where id = 9");
    pair.source("delete from t where id = 9; insert into t values (9)");
    assert_eq!(drain(&flow).unwrap().conflicts, 1);
    pair.source("truncate t; insert into t values (9), (10)");
    drain(&flow).unwrap();
    assert_eq!(told(&pair), [""; 0]);
    pair.assert_equal("select * from t");

    // Nor is it done before a row has gone through the partition, there or back, whoever has set that aside.
    let home = Flow { name: FlowName::Replay, ..flow };
    let stopping = Flow { quarantine: false, ..home.clone() };
    pair.begins(&home);
    for (flow, truncated) in [(&home, "p1"), (&home, "p2"), (&stopping, "p1"), (&stopping, "p2")] {
        pair.source("insert into p values (1, 1, 'old'), (2, 1, 'old'), (3, 2, 'old')");
        drain(flow).unwrap();
        pair.target("update p set extra = 'kept'; delete from p where id = 1");
        pair.source("update p set v = 'first' where id = 1");
        if !flow.quarantine {
            drain(&home).unwrap();
        }
        pair.source(&format!(
            "update p set k = 2 where id = 1; update p set v = 'last' where id = 1; truncate {truncated};
             update p set k = 3 - k where id = 2; update p set v = 'new' where id = 3; insert into p values (4, 1, 'new'), (5, 2, 'new')"
        ));
        drain(flow).unwrap();
        let aside = set_aside(&pair);
        let first = |operation: &str| aside.iter().find(|entry| entry.operation == operation);
        let truncate = first("truncate").expect("it waits");
        assert_eq!(
            (truncate.table.as_str(), truncate.kind.as_str()),
            (&*format!("public.{truncated}"), "follows")
        );
        assert_eq!(quarantine::retry(flow, Some(truncate.id)).unwrap_err().kind(), "quarantine_order");
        pair.target("insert into p values (1, 1, 'old', 'kept')");
        quarantine::retry(flow, None).unwrap();
        assert_eq!(told(&pair), [""; 0], "{truncated}");
        pair.assert_equal("select id, k, v from p");
        assert_eq!(pair.rows(Side::Target, "select id from p where extra = 'lost' and id < 4"), [""; 0]);
        pair.source("truncate p");
        drain(flow).unwrap();
    }
    // With all of its partitions there is nothing left that waits.
    pair.source("insert into p values (1, 1, 'old')");
    drain(&home).unwrap();
    pair.target("delete from p");
    pair.source("update p set v = 'new'; update p set k = 2; truncate p; insert into p values (1, 1, 'new')");
    assert_eq!(drain(&home).unwrap().conflicts, 1);
    assert_eq!(told(&pair), [""; 0]);
    pair.assert_equal("select id, k, v from p");
}

#[test]
fn a_table_that_has_changed_stops_the_flow_and_is_not_set_aside() {
    let (pair, flow) = pair_with_quarantine(T, T, &[]);
    pair.source("insert into t values (1, 1)");
    drain(&flow).unwrap();
    pair.target("alter table t rename column note to remark");
    pair.source("insert into t values (2, 2, 'x')");
    let error = drain(&flow).unwrap_err();
    assert_eq!(error.kind(), "refused", "{error:?}");
    assert_eq!(told(&pair), [""; 0]);
    pair.target("alter table t rename column remark to note");
    drain(&flow).unwrap();
    pair.assert_equal("select * from t");
}

#[test]
fn a_thousand_conflicts_in_one_transaction_are_set_aside_and_fit_again() {
    let (pair, flow) = pair_with_quarantine(T, T, &[]);
    pair.source("insert into t select g, g, 'n' from generate_series(1, 20000) g");
    drain(&flow).unwrap();
    pair.target("delete from t where id % 20 = 0");
    pair.source("update t set note = 'm'");
    let applied = drain(&flow).unwrap();
    assert_eq!(applied.conflicts, 1000);
    assert_eq!(set_aside(&pair).len(), 1000);
    assert_eq!(pair.rows(Side::Target, "select count(*) from t where note = 'm'"), ["(19000)"]);
    pair.target("insert into t select g, g, 'n' from generate_series(20, 20000, 20) g");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 1000);
    pair.assert_equal("select * from t");
}

#[test]
fn a_row_that_is_one_on_the_subscriber_waits_wherever_the_publisher_has_it() {
    let old = "
        create table p (id int, kind int, v text, primary key (id, kind)) partition by list (kind);
        create table p1 partition of p for values in (1);
        create table p2 partition of p for values in (2);
        create table flat (id int, kind int, v text, primary key (id, kind));
        create table apart_a (id int primary key, v text); create table apart_b (id int primary key, v text);
        insert into p values (1, 1, 'a'), (2, 1, 'a'); insert into flat values (1, 1, 'a'), (2, 1, 'a');
        insert into apart_a values (1, 'a'); insert into apart_b values (1, 'a')";
    // One row of each is lost.
    let new = "
        create table p (id int primary key, kind int, v text); create table flat (id bigint primary key, kind int, v text);
        create table united (which text, id int, v text, primary key (which, id));
        insert into p values (2, 1, 'a'); insert into flat values (1002, 1, 'a'); insert into united values ('b', 1, 'a')";
    let computed = [("id", "id::bigint + 1000")];
    let maps = [
        rule("public.p", "public.p", &[("id", "id")], &[], &[]),
        rule("public.flat", "public.flat", &computed, &computed, &[]),
        rule("public.apart_a", "public.united", &[("which", "'a'"), ("id", "id")], &[("which", "'a'")], &[]),
        rule("public.apart_b", "public.united", &[("which", "'b'"), ("id", "id")], &[("which", "'b'")], &[]),
    ];
    let (pair, flow) = pair_with_quarantine(old, new, &maps);
    pair.source(
        "update p set v = 'b' where id = 1; update flat set v = 'b' where id = 1; update apart_a set v = 'b'",
    );
    drain(&flow).unwrap();
    // By another run, which knows what was set aside from the quarantine alone.
    pair.source(
        "update p set kind = 2 where id = 1; update flat set kind = 2 where id = 1; update flat set v = 'c' where id = 1;
         update p set kind = 2 where id = 2; update flat set kind = 2 where id = 2; update apart_b set v = 'c'",
    );
    drain(&flow).unwrap();
    let waiting = [
        r#"public.p1 update update_missing {"id":"1","kind":"1"}"#,
        r#"public.flat update update_missing {"id":"1","kind":"1"}"#,
        r#"public.apart_a update update_missing {"id":"1"}"#,
        r#"public.p1 delete follows {"id":"1","kind":"1"}"#,
        r#"public.p2 insert follows {"id":"1","kind":"2"}"#,
        r#"public.flat update follows {"id":"1","kind":"1"} {"id":"1","kind":"2"}"#,
        r#"public.flat update follows {"id":"1","kind":"2"}"#,
    ];
    assert_eq!(told(&pair), waiting);
    assert_eq!(pair.rows(Side::Target, "select * from p"), ["(2,2,a)"]);
    assert_eq!(pair.rows(Side::Target, "select * from flat"), ["(1002,2,a)"]);
    assert_eq!(pair.rows(Side::Target, "select * from united"), ["(b,1,c)"]);
    let ids: Vec<i64> = set_aside(&pair).iter().map(|entry| entry.id).collect();
    assert_eq!(quarantine::retry(&flow, Some(ids[4])).unwrap_err().kind(), "quarantine_order");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 0, "nothing has been mended");
    assert_eq!(told(&pair), waiting);

    pair.target("insert into p values (1, 1, 'a'); insert into flat values (1001, 1, 'a'); insert into united values ('a', 1, 'a')");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 7);
    assert_eq!(pair.rows(Side::Target, "select * from p order by 1"), ["(1,2,b)", "(2,2,a)"]);
    assert_eq!(pair.rows(Side::Target, "select * from flat order by 1"), ["(1001,2,c)", "(1002,2,a)"]);
    assert_eq!(pair.rows(Side::Target, "select * from united order by 1"), ["(a,1,b)", "(b,1,c)"]);
}

/// Whether rows of tables with keys of different forms are the same, only the server could tell.
#[test]
fn tables_whose_keys_cannot_be_compared_are_held_together() {
    let old = "create table a (id int primary key, v text); create table b (id int primary key, v text);
               create table c (id int primary key, v text);
               insert into a values (1, 'a'); insert into b values (1, 'b'); insert into c values (1, 'c')";
    let new = "create table one (id int primary key, v text); create table c (id int primary key, v text);
               insert into one values (101, 'b'); insert into c values (1, 'c')";
    let computed = [("id", "id + 100")];
    let maps = [
        rule("public.a", "public.one", &[("id", "id")], &[], &[]),
        rule("public.b", "public.one", &computed, &computed, &[]),
    ];
    let (pair, flow) = pair_with_quarantine(old, new, &maps);
    pair.source("update a set v = 'new'; update b set v = 'new'; update c set v = 'new'");
    drain(&flow).unwrap();
    let waiting = [r#"public.a update update_missing {"id":"1"}"#, r#"public.b update follows {"id":"1"}"#];
    assert_eq!(told(&pair), waiting);
    assert_eq!(pair.rows(Side::Target, "select v from c"), ["(new)"]);
    pair.target("insert into one values (1, 'a')");
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 2);
}

#[test]
fn what_has_waited_for_a_later_change_fits_behind_it() {
    let parent = "create table parent (id int primary key, v int)";
    let child = "create table child (id int primary key, pid int references parent";
    let (pair, flow) = pair_with_quarantine(
        &format!("{parent}; {child} deferrable initially deferred); create table other (v int primary key)"),
        &format!(
            "{parent}; {child}); alter table parent add constraint small check (v < 10);
             create table other (v int primary key check (v < 10))"
        ),
        &[],
    );
    let flow = Flow { name: FlowName::Replay, ..flow };
    pair.begins(&flow);
    pair.source("begin; insert into child values (1, 5); insert into other values (100); insert into parent values (5, 100); commit");
    drain(&flow).unwrap();
    assert_eq!(set_aside(&pair).len(), 3);
    assert_eq!(set_aside(&pair)[0].table, "public.child");
    pair.target("alter table parent drop constraint small");
    let flow = Flow { mapping: pair.mapping(&[]).unwrap(), ..flow };
    assert_eq!(quarantine::retry(&flow, None).unwrap(), 2);
    pair.assert_equal("select * from child natural join parent as p (pid, v)");
}
