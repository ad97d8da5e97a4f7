//! Batches that go in as few round trips as can be.

use super::resume::{lock_applier, second_lock};
use super::test_pair::{Pair, drain};
use crate::error::Error;
use crate::flow::FlowName;
use crate::phase::Side;

#[test]
fn a_batch_takes_two_messages_whatever_is_in_it() {
    let tables = "create table a (id int primary key, v int); create table b (id int primary key, t text);
                  create table c (id int primary key, v int); create table d (at int, line text)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source(
        "insert into a select g, g from generate_series(1, 500) g; insert into b select g, 't' from generate_series(1, 5) g;
         insert into c select g, g from generate_series(1, 300) g",
    );
    drain(&flow).unwrap();
    pair.target("alter database target set log_statement = 'all'");
    pair.source(
        "update a set v = v + 1; update b set t = E'tab\\tline\\n' where id < 3; delete from c where id > 20;
         insert into c values (1000, 1); insert into d select g, 'line' from generate_series(1, 300) g; delete from a where id = 7",
    );
    drain(&flow).unwrap();
    let log = pair.server.log();
    let (_, batch) = log.split_once("statement: begin;").expect("a batch begins");
    let messages =
        batch.lines().filter(|line| line.contains("LOG:  statement:") || line.contains("LOG:  execute"));
    assert_eq!(messages.count(), 1, "one message more, which commits:\n{batch}");
    for table in ["a", "b", "c", "d"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn what_does_not_go_at_once_is_applied_in_its_order() {
    let tables =
        "create table u (id int primary key, v int unique); create table n (id int primary key, v int)";
    let pair = Pair::new(tables, tables);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    pair.source("insert into u select g, g from generate_series(1, 300) g; insert into n select g, g from generate_series(1, 300) g");
    drain(&flow).unwrap();
    // Values wander: no statement for all rows passes by the others' values.
    pair.source(
        "begin; update u set v = -v; update u set v = 301 + v; commit; update n set v = v + 1;
         begin; truncate n; insert into n values (1, 1); commit; update u set id = id + 1000 where id = 5",
    );
    drain(&flow).unwrap();
    for table in ["u", "n"] {
        pair.assert_equal(&format!("select * from {table}"));
    }
    let sessions = "select count(*) from pg_stat_activity where application_name = 'pgdetour test'";
    assert_eq!(pair.rows(Side::Target, sessions), ["(0)"], "both sessions have ended");
}

#[test]
fn an_applier_waits_until_the_second_session_of_the_one_before_has_ended() {
    let pair = Pair::new("", "");
    let mut before = pair.client(Side::Target);
    before.batch_execute(&second_lock(FlowName::Replay)).unwrap();
    let mut session = pair.session(Side::Target);
    session.client().batch_execute("set lock_timeout = '50ms'").unwrap();
    let refused = lock_applier(&mut session, FlowName::Replay).unwrap_err();
    assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
    lock_applier(&mut session, FlowName::Mirror).unwrap();
    drop(before);
    session.client().batch_execute("set lock_timeout = '20s'").unwrap();
    lock_applier(&mut session, FlowName::Replay).unwrap();
    // The first session's own second may take it now.
    pair.client(Side::Target).batch_execute(&second_lock(FlowName::Replay)).unwrap();
}
