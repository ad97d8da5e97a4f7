//! Flows from a change table that triggers fill, on a server that cannot decode its WAL.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::change::Change;
use super::change_table;
use super::reader::Item;
use crate::error::Error;
use crate::flow::apply::follow::BATCH_BYTES;
use crate::flow::apply::follow_tests::{
    CHAINED, TABLES, break_again_and_again, change_in_every_way, change_keys_in_chains,
};
use crate::flow::apply::test_pair::{BUDGET, Pair, drain};
use crate::flow::subscription::{self, NewSubscription};
use crate::flow::{ChangeSource, Flow, FlowName, Origins, Until, apply_until};
use crate::pg::catalog;
use crate::pg::server::AS_REPLICA;
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
        passed_over: HashSet::new(),
        left_out: Origins::None,
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
    let deadline = Instant::now() + BUDGET;
    while client.query_one(query, &[]).unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "nobody waits");
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
    let last = format!("({})", u64::from(applied.applied_lsn));
    assert_eq!(pair.rows(Side::Source, "select position from pgdetour.change_order"), [last]);
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

/// A run that places transactions beside the flow's own, and has not committed: its place is not there to be read.
#[test]
fn a_place_that_another_session_has_drawn_and_not_committed_is_not_passed() {
    let (pair, flow) = recorded("create table t (id int primary key)");
    pair.source("insert into t values (1)");
    let applied = drain(&flow).unwrap().applied_lsn;
    pair.source("select nextval(pg_get_serial_sequence('pgdetour.change_order', 'position'))");
    let mut session = pair.session(Side::Source);
    assert_eq!(flow.source.end(&mut session).unwrap(), applied);
    assert!(flow.source.written(&mut session).unwrap() > applied);
    let reader = flow.source.open(&flow.publisher, applied, false, None).unwrap();
    let deadline = Instant::now() + BUDGET;
    let chunk = loop {
        assert!(Instant::now() < deadline, "nothing is said of where it ends");
        let chunk = reader.next(Duration::from_millis(5)).unwrap();
        if let Some(chunk) = chunk.filter(|chunk| chunk.drained) {
            break chunk;
        }
    };
    assert_eq!(PgLsn::from(chunk.position), applied);
    // All that was placed is removed, but how far that was is still known.
    assert!(change_table::purge(&mut session, applied, BUDGET).unwrap());
    assert_eq!(flow.source.end(&mut session).unwrap(), applied);
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

/// The rows that a statement changes are recorded as it ends, behind what triggers and functions did to them meanwhile, which was
/// after it.
#[test]
fn what_happens_to_a_row_within_a_statement_that_has_changed_it_comes_after_that() {
    let tables = "create table card (id int primary key, chosen bool default false, n int default 0);
                  create table part (id int, k int, v int default 0, primary key (id, k)) partition by list (k);
                  create table part_1 partition of part for values in (1);
                  create table part_2 partition of part for values in (2);
                  create table whole (id int, v text);
                  alter table whole replica identity full;";
    let (pair, flow) = recorded(tables);
    pair.client(Side::Source)
        .batch_execute(
            "create function one() returns trigger language plpgsql as $$ begin
                 if new.chosen then update card set chosen = false where id <> new.id and chosen; end if;
                 return new;
             end $$;
             create trigger one before insert or update on card for each row execute function one();
             create function note() returns trigger language plpgsql as $$ begin
                 update whole set v = v || '+' where id = 1 and pg_trigger_depth() < 3;
                 return null;
             end $$;
             create trigger note after insert or update on whole for each row execute function note();
             create function touch() returns int language plpgsql volatile as $$ begin
                 update card set n = n + 10 where n = 1; update card set n = n + 100 where n = 11; return 1;
             end $$;
             create function take() returns int language plpgsql volatile as $$ begin
                 delete from card where n = 2; return 2;
             end $$;
             create function turn() returns int language plpgsql volatile as $$ begin
                 update part set v = v + 1 where v = 3; update part set k = 2, v = v * 10 where v = 4; return 3;
             end $$;",
        )
        .unwrap();
    for (script, table) in [
        ("insert into card values (1), (2); update card set chosen = true where id in (1, 2)", "card"),
        ("insert into card values (3, true), (4, true), (5, true)", "card"),
        ("update card set n = touch()", "card"),
        ("update card set n = take()", "card"),
        ("insert into whole values (1, 'a'), (2, 'b'); update whole set v = v || '-'", "whole"),
        ("insert into part values (1, 1), (2, 1)", "part"),
        ("update part set v = turn()", "part"),
        // A version may be where another one was before, in the same transaction.
        (
            "begin; truncate card; insert into card values (1); update card set n = 1; update card set n = 2; truncate card;
             insert into card values (6, true), (7, true), (8, true); savepoint a; update card set n = 3; rollback to a; commit",
            "card",
        ),
    ] {
        pair.source(script);
        drain(&flow).unwrap();
        pair.assert_equal(&format!("select * from {table}"));
    }
}

#[test]
fn a_table_that_changes_by_a_command_of_something_else_is_described_anew() {
    let tables = "create domain email as text; create type pt as (a int, b text);
                  create table t (id int primary key, e email, kept text);
                  create table y of pt (primary key (a));
                  create table above (id int primary key, gone text, kept text); create table below () inherits (above);
                  alter table below add primary key (id);
                  create schema old; create table old.s (id int primary key)";
    let (pair, flow) = recorded(tables);
    pair.source(
        "insert into t values (1, 'x', 'before'); insert into below values (1, 'x', 'before'); insert into y values (1, 'x');
         drop domain email cascade; alter table above drop column gone; alter type pt add attribute c int cascade;
         alter schema old rename to new;
         insert into t values (2, 'after'); insert into below values (2, 'after'); insert into y values (2, 'y', 3);
         insert into new.s values (1)",
    );
    pair.target(
        "alter table t drop column e; alter table above drop column gone; alter type pt add attribute c int cascade",
    );
    let Err(error) = drain(&flow) else { panic!("it was mapped as it was") };
    assert_ne!(error.kind(), "columns_changed", "{error}");
    let reader = flow.source.open(&flow.publisher, PgLsn::from(0), false, None).unwrap();
    let deadline = Instant::now() + BUDGET;
    let mut columns: Vec<(String, usize)> = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "not all of it was read");
        let Some(chunk) = reader.next(Duration::from_millis(5)).unwrap() else { continue };
        for item in chunk.items {
            if let Item::Change(Change::Row { relation, .. }) = item {
                columns.push((relation.display(), relation.columns.len()));
            }
        }
        if chunk.drained {
            break;
        }
    }
    let read: Vec<(&str, usize)> = columns.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let told = [
        ("public.t", 3),
        ("public.below", 3),
        ("public.y", 2),
        ("public.t", 2),
        ("public.below", 2),
        ("public.y", 3),
        ("new.s", 1),
    ];
    assert_eq!(read, told);
}

#[test]
fn what_was_of_a_type_that_has_gone_since_arrives() {
    let tables = "create domain num as int; create type mood as enum ('glad', 'sad'); create type pair as (a int, b text);
                  create table t (id int primary key, n num, m mood, l mood[], p pair, kept text)";
    let (pair, flow) = recorded(tables);
    pair.source(
        "insert into t values (1, 5, 'sad', '{glad,sad}', '(1,x)', 'kept'); drop type mood, num, pair cascade; insert into t values (2, 'after')",
    );
    drain(&flow).unwrap();
    let arrived = ["(1,5,sad,\"{glad,sad}\",\"(1,x)\",kept)", "(2,,,,,after)"];
    assert_eq!(pair.rows(Side::Target, "table t"), arrived);
}

/// Where our role may not make event triggers.
#[test]
fn a_partition_that_is_emptied_before_that_could_be_recorded_is_found() {
    let (pair, flow) = recorded(PARTED);
    pair.source("drop event trigger pgdetour_capture; drop event trigger pgdetour_capture_drop");
    let partitions = "create table p_2 partition of p for values in (2); create table p_3 partition of p for values in (3)";
    for side in [Side::Source, Side::Target] {
        pair.client(side).batch_execute(partitions).unwrap();
    }
    pair.source("insert into p values (1), (2)");
    drain(&flow).unwrap();
    pair.source("truncate p_2; insert into p values (3)");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table p"), ["(1)", "(3)"]);
    // One that is in use gets its trigger at another time.
    pair.source("create table p_4 partition of p for values in (4)");
    let mut writer = pair.client(Side::Source);
    writer.batch_execute("begin; insert into p values (4)").unwrap();
    drain(&flow).unwrap();
    writer.batch_execute("rollback").unwrap();
    pair.source("truncate p_4");
    let error = drain(&flow).unwrap_err();
    assert_eq!(error.kind(), "capture_incomplete");
    assert!(error.to_string().contains("\"public.p_4\""), "{error}");
}

#[test]
fn who_owns_a_partitioned_table_makes_partitions_of_it_that_are_recorded() {
    let tables = "create table p (id int primary key) partition by list (id); alter table p owner to writer;
                  grant create on schema public to writer";
    let (pair, flow) = recorded(tables);
    let partitions = "set role writer; create table p_1 partition of p for values in (1); create table p_2 (id int not null);
                      alter table p attach partition p_2 for values in (2)";
    for side in [Side::Source, Side::Target] {
        pair.client(side).batch_execute(partitions).unwrap();
    }
    pair.source("set role writer; insert into p values (1), (2); truncate p_2");
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table p"), ["(1)"]);
    let may = "select has_function_privilege('pg_monitor', 'pgdetour.record_change()', 'execute'),
                      has_function_privilege('writer', 'pgdetour.record_truncate()', 'execute')";
    assert_eq!(pair.rows(Side::Source, may), ["(f,f)"]);
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
fn what_is_carried_over_is_not_recorded_and_what_others_write_as_replicas_is() {
    let (pair, flow) = recorded("create table t (id int primary key)");
    let mut session = pair.session(Side::Source);
    let write = |begin: &str, row: i32| {
        let script =
            format!("{begin}; insert into t values ({row}); truncate t; insert into t values ({row})");
        pair.client(Side::Source).batch_execute(&script).unwrap();
    };
    write(AS_REPLICA, 1);
    let position = ChangeSource::Triggers.end(&mut session).unwrap();
    assert_eq!(position, PgLsn::from(0), "nothing was recorded");
    write("set session_replication_role = replica", 2);
    // It takes the right to act as a replica to be left out.
    pair.source("set pgdetour.carries = on; insert into t values (3)");
    assert_eq!(change_table::count_later(&mut session, position).unwrap(), 4);
    assert!(change_table::bytes_behind(&mut session, position).unwrap() > 0);
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "table t"), ["(2)", "(3)"]);
}

#[test]
fn what_the_mirrors_subscription_writes_is_not_recorded_and_what_another_writes_is() {
    let pair = Pair::new("create table t (id int primary key)", "create table t (id int primary key)");
    let mut session = pair.session(Side::Target);
    let tables = catalog::list_tables(&mut session).unwrap();
    change_table::create_capture(&mut session, &tables).unwrap();
    let conninfo = pair.on(Side::Source).conninfo.libpq_text();
    for (row, name) in ["pgdetour_mirror", "somebodys"].into_iter().enumerate() {
        pair.source(&format!("create publication {name} for table t"));
        pair.source(&format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')"));
        let new =
            NewSubscription { name, conninfo: &conninfo, publication: name, slot: name, as_its_owner: false };
        subscription::create_subscription(&mut session, &new).unwrap();
        subscription::enable_subscription(&mut session, name).unwrap();
        pair.source(&format!("insert into t values ({row})"));
        let deadline = Instant::now() + BUDGET;
        while pair.rows(Side::Target, "table t").len() <= row {
            assert!(Instant::now() < deadline, "nothing arrives by {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let recorded = change_table::count_later(&mut session, PgLsn::from(0)).unwrap();
        assert_eq!(recorded, i64::from(name == "somebodys"), "{name}");
        subscription::drop_subscription(&mut session, name).unwrap();
    }
}

/// Tables that are captured, one of them with partitions.
const PARTED: &str = "create table t (id int primary key);
                      create table p (id int primary key) partition by list (id);
                      create table p_1 partition of p for values in (1);";

#[test]
fn triggers_that_record_cannot_be_disabled_not_even_for_a_transaction() {
    let (pair, flow) = recorded(PARTED);
    let mut client = pair.client(Side::Source);
    for role in ["origin", "replica"] {
        client.batch_execute(&format!("set session_replication_role = {role}")).unwrap();
        for table in ["t", "p", "p_1"] {
            let replica = "enable replica trigger \"!pgdetour_capture_delete\"";
            for what in ["disable trigger user", "disable trigger all", replica] {
                let error = client.batch_execute(&format!("alter table {table} {what}")).unwrap_err();
                assert_eq!(error.code(), Some(&SqlState::OBJECT_IN_USE), "{table} {what}: {error:?}");
            }
            // To be sure that all fire harms nothing, nor does it leave them out where a session acts as a replica.
            client.batch_execute(&format!("alter table {table} enable trigger all")).unwrap();
        }
    }
    let mut session = pair.session(Side::Source);
    ChangeSource::Triggers.require_intact(&mut session).unwrap();
    client.batch_execute("create table p_2 partition of p for values in (2)").unwrap();
    client.batch_execute("insert into p values (1), (2); truncate p_2; insert into t values (1)").unwrap();
    let others = "select tgname from pg_trigger where tgname like '!pgdetour%' and tgenabled <> 'A'";
    assert_eq!(pair.rows(Side::Source, others), [""; 0]);
    pair.client(Side::Target).batch_execute("create table p_2 partition of p for values in (2)").unwrap();
    drain(&flow).unwrap();
    assert_eq!(pair.rows(Side::Target, "select * from p union all select * from t"), ["(1)", "(1)"]);
}

/// Where our role may not make event triggers.
#[test]
fn a_trigger_that_was_disabled_is_found_though_it_was_enabled_again() {
    let (pair, flow) = recorded("create table t (id int primary key)");
    let mut session = pair.session(Side::Source);
    pair.source("drop event trigger pgdetour_capture");
    pair.source(
        "alter table t disable trigger \"!pgdetour_capture_truncate\"; truncate t; alter table t enable trigger user",
    );
    let Err(Error::Conflict { kind, message, .. }) = ChangeSource::Triggers.require_intact(&mut session)
    else {
        panic!("it is not found")
    };
    assert_eq!(kind, "capture_incomplete");
    assert!(message.contains("\"public.t\""), "{message}");
    let stopped = apply_until(&flow, &Until::Stopped, &AtomicBool::new(true), Some(BUDGET), &mut |_| ());
    assert!(stopped.is_err());
    let tables = catalog::list_tables(&mut session).unwrap();
    assert!(change_table::create_capture(&mut session, &tables).unwrap(), "made anew");
    ChangeSource::Triggers.require_intact(&mut session).unwrap();
}

#[test]
fn what_of_a_recording_by_wal_is_missing_is_named() {
    let tables = "create table t (id int primary key)";
    let pair = Pair::new(tables, tables);
    let flow = pair.flow(&[]);
    let mut session = pair.session(Side::Source);
    flow.source.require_intact(&mut session).unwrap();
    for (loss, told) in [
        ("drop publication pgdetour_mirror", "publication \"pgdetour_mirror\" does not exist there any more"),
        (
            "select pg_drop_replication_slot('pgdetour_mirror')",
            "slot \"pgdetour_mirror\" and publication \"pgdetour_mirror\" do not exist there any more",
        ),
        (
            "create publication pgdetour_mirror for table t",
            "slot \"pgdetour_mirror\" does not exist there any more",
        ),
    ] {
        pair.source(loss);
        let Err(Error::Conflict { detail, .. }) = flow.source.require_intact(&mut session) else {
            panic!("it is not found")
        };
        assert_eq!(detail.as_deref(), Some(told));
    }
}
