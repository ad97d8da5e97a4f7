//! Flows from a change table that triggers fill, on a server that cannot decode its WAL.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postgres::Client;
use postgres::types::PgLsn;

use super::change_table;
use crate::error::Error;
use crate::flow::apply::follow::BATCH_BYTES;
use crate::flow::apply::follow_tests::{
    CHAINED, TABLES, break_again_and_again, change_in_every_way, change_keys_in_chains,
};
use crate::flow::apply::test_pair::{BUDGET, Pair, drain};
use crate::flow::{ChangeSource, Flow, FlowName, Until, apply_until};
use crate::pg::catalog;
use crate::phase::Side;

const DETOUR: &str = "11111111-2222-3333-4444-555555555555";

/// Two databases with the same tables, and triggers on those of the source.
fn recorded(tables: &str) -> (Pair, Flow) {
    let pair = Pair::with_settings("wal_level = replica\nmax_prepared_transactions = 5", tables, tables);
    let mut session = pair.session(Side::Source);
    let list = catalog::list_tables(&mut session).unwrap();
    assert!(change_table::create_capture(&mut session, &list).unwrap());
    assert!(!change_table::create_capture(&mut session, &list).unwrap(), "made once");
    let flow = Flow {
        name: FlowName::Mirror,
        detour: DETOUR.to_owned(),
        publisher: pair.on(Side::Source),
        subscriber: pair.on(Side::Target),
        source: ChangeSource::Triggers,
        mapping: pair.mapping(&[]).unwrap(),
        snapshots: HashMap::new(),
        skip_origins: false,
        batch_bytes: BATCH_BYTES,
        backlog: None,
        quarantine: false,
    };
    (pair, flow)
}

/// Waits until a session of the source waits for a lock.
fn wait_for_waiter(pair: &Pair) {
    let mut client = pair.client(Side::Source);
    let query = "select count(*) from pg_locks where not granted";
    let deadline = std::time::Instant::now() + BUDGET;
    while client.query_one(query, &[]).unwrap().get::<_, i64>(0) == 0 {
        assert!(std::time::Instant::now() < deadline, "nobody waits");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_kind_of_change_arrives_by_triggers() {
    let (pair, mut flow) = recorded(TABLES);
    let applied = change_in_every_way(&pair, &mut flow);
    assert!(applied.reached && applied.replica_role && applied.lag_bytes == 0, "{applied:?}");
    // Removed in steps, the last of which a later run may have to do.
    let mut session = pair.session(Side::Source);
    assert!(change_table::purge(&mut session, applied.applied_lsn, BUDGET).unwrap());
    assert_eq!(pair.rows(Side::Source, "select xid, ordinal from pgdetour.change"), [""; 0]);
    assert_eq!(pair.rows(Side::Source, "select position from pgdetour.change_order"), [""; 0]);
    change_table::drop_capture(&mut session).unwrap();
    let left = "select tgname from pg_trigger where tgname like '!pgdetour%'";
    assert_eq!(pair.rows(Side::Source, left), [""; 0]);
}

#[test]
fn a_chain_of_key_changes_keeps_each_row_apart_by_triggers() {
    let (pair, flow) = recorded(CHAINED);
    change_keys_in_chains(&pair, &flow);
}

#[test]
fn a_flow_from_triggers_that_is_broken_again_and_again_is_exact() {
    let (pair, mut flow) = recorded(TABLES);
    break_again_and_again(&pair, &mut flow, "client backend");
}

/// `older` has the smaller xid, changes the row last, and commits first of those that are open: a bound on xids would
/// take its change for the earlier one.
#[test]
fn changes_of_one_row_keep_their_order_whatever_the_xids() {
    let (pair, flow) = recorded("create table t (id int primary key, v text)");
    pair.source("insert into t values (1, 'first'), (2, 'first'), (3, 'first')");
    drain(&flow).unwrap();
    let [mut older, mut between, mut younger] = [(); 3].map(|()| pair.client(Side::Source));
    let begin = |client: &mut Client, row: i32, value: &str| {
        client.batch_execute("begin").unwrap();
        client.batch_execute(&format!("update t set v = '{value}' where id = {row}")).unwrap();
    };
    begin(&mut older, 2, "older");
    begin(&mut between, 3, "between");
    begin(&mut younger, 1, "younger");
    younger.batch_execute("commit").unwrap();
    older.batch_execute("update t set v = 'older' where id = 1; commit").unwrap();
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table t"), ["(1,older)", "(2,older)", "(3,first)"]);
    // It goes on although a transaction is open all the while, and that one is not forgotten.
    pair.source("update t set v = 'last' where id = 1");
    drain(&flow).unwrap();
    between.batch_execute("commit").unwrap();
    drain(&flow).unwrap();
    pair.assert_equal("select * from t");
}

/// The waiting transaction drew an ordinal before the one that it waits for drew its last.
#[test]
fn a_transaction_that_waited_comes_after_the_one_it_waited_for() {
    let (pair, flow) = recorded("create table t (id int primary key, v text unique)");
    pair.source("insert into t values (1, 'a'), (2, 'b'), (3, 'c')");
    let [mut first, mut second] = [(); 2].map(|()| pair.client(Side::Source));
    first.batch_execute("begin; delete from t where id = 1").unwrap();
    second.batch_execute("begin; update t set v = 'x' where id = 2").unwrap();
    std::thread::scope(|scope| {
        // Gone, with its locks, when the test fails: nobody waits for it then.
        let mut first = first;
        // Waits for the unique value that `first` is about to free.
        let waiting = scope.spawn(|| second.batch_execute("insert into t values (4, 'a'); commit").unwrap());
        wait_for_waiter(&pair);
        first.batch_execute("update t set v = 'late' where id = 3; commit").unwrap();
        waiting.join().unwrap();
    });
    drain(&flow).unwrap();
    pair.assert_equal("select * from t");
}

#[test]
fn what_is_prepared_comes_when_it_is_committed() {
    let (pair, flow) = recorded("create table t (id int primary key, v text)");
    let mut client = pair.client(Side::Source);
    let first =
        "begin; insert into t values (1, 'x'); savepoint a; insert into t values (2, 'y'); rollback to a;
                 savepoint b; insert into t values (3, 'z'); prepare transaction 'two'";
    first.split(';').for_each(|statement| client.batch_execute(statement).unwrap());
    pair.source("insert into t values (4, 'meanwhile')");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select id from t"), ["(4)"]);
    client.batch_execute("commit prepared 'two'").unwrap();
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select id from t"), ["(1)", "(3)", "(4)"]);
}

#[test]
fn partitions_made_later_and_emptied_are_recorded() {
    let tables = "create table p (id int, k int, v text, primary key (id, k)) partition by list (k);
                  create table p_1 partition of p for values in (1);
                  create table q (id int primary key);";
    let (pair, flow) = recorded(tables);
    for side in [Side::Source, Side::Target] {
        pair.client(side).batch_execute("create table p_2 partition of p for values in (2)").unwrap();
    }
    pair.source(
        "insert into p select g, 1 + g % 2, 'x' from generate_series(1, 10) g; update p set k = 3 - k where id < 4;
         insert into q values (1), (2)",
    );
    drain(&flow).unwrap();
    pair.assert_equal("select * from p");
    pair.source("truncate p_2; insert into p values (100, 2, 'after')");
    drain(&flow).unwrap();
    pair.assert_equal("select * from p");
    pair.source("truncate p, q restart identity cascade; insert into p values (101, 1, 'after')");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table p"), ["(101,1,after)"]);
    assert_eq!(pair.rows(Side::Target, "table q"), [""; 0]);
}

#[test]
fn an_altered_table_stops_the_flow_where_it_was_altered() {
    let (pair, flow) = recorded("create table t (id int primary key, gone text, kept text)");
    pair.source(
        "insert into t values (1, 'a', 'b'); alter table t drop column gone, add column more int;
         insert into t values (2, 'c', 3)",
    );
    let error = drain(&flow).unwrap_err();
    assert_eq!(error.kind(), "columns_changed", "{error}");
}

#[test]
fn what_is_applied_is_not_recorded_and_a_disabled_trigger_is_found() {
    let (pair, flow) = recorded("create table t (id int primary key)");
    let mut session = pair.session(Side::Source);
    session
        .client()
        .batch_execute("set session_replication_role = replica; insert into public.t values (1); reset session_replication_role")
        .unwrap();
    let position = ChangeSource::Triggers.end(&mut session).unwrap();
    assert_eq!(position, PgLsn::from(0), "nothing was recorded");
    pair.source("insert into t values (2)");
    assert_eq!(change_table::count_later(&mut session, position).unwrap(), 1);
    assert!(change_table::bytes_behind(&mut session, position).unwrap() > 0);
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table t"), ["(2)"]);
    pair.source("alter table t disable trigger \"!pgdetour_capture_delete\"");
    let Err(Error::Conflict { kind, .. }) = ChangeSource::Triggers.require_intact(&mut session) else {
        panic!("a disabled trigger is not found")
    };
    assert_eq!(kind, "capture_incomplete");
    let stopped = apply_until(&flow, &Until::Stopped, &AtomicBool::new(true), Some(BUDGET), &mut |_| ());
    assert!(stopped.is_err());
}
