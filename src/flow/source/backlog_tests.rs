//! Flows that read what a slot has gathered before they stream it.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::flow::apply::follow_tests::{TABLES, break_again_and_again, change_in_every_way};
use crate::flow::apply::test_pair::{BUDGET, Pair, drain};
use crate::flow::test_stop::StopAtEnd;
use crate::flow::{Until, apply_until};
use crate::phase::Side;

const NUMBERS: &str = "create table n (id int primary key, v int)";

/// So many transactions, several messages each.
fn write_numbers(pair: &Pair, from: i32, to: i32) {
    pair.client(Side::Source)
        .batch_execute(&format!(
            "do $$ begin for i in {from} .. {to} loop
                 insert into n values (i, 0); update n set v = v + i where id = i or id = 1; commit;
             end loop; end $$"
        ))
        .unwrap();
}

fn wait_for_rows(pair: &Pair, count: usize) {
    let deadline = Instant::now() + BUDGET;
    while pair.rows(Side::Target, "select id from n").len() < count {
        assert!(Instant::now() < deadline, "{count} rows have not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_kind_of_change_arrives_in_pieces() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    let applied = change_in_every_way(&pair, &mut flow);
    assert!(applied.reached, "{applied:?}");
}

#[test]
fn pieces_follow_each_other_and_the_stream_follows_them() {
    let pair = Pair::new(NUMBERS, NUMBERS);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    write_numbers(&pair, 1, 1000);
    let applied = drain(&flow).unwrap();
    assert_eq!((applied.changes, applied.transactions), (2999, 1001), "each once, and the marker's");
    pair.assert_equal("select * from n");
    // The copies are gone with their sessions, and the slot is where all is applied.
    let slots = "select slot_name, confirmed_flush_lsn from pg_replication_slots";
    let left = format!("(pgdetour_mirror,{})", applied.applied_lsn);
    assert_eq!(pair.rows(Side::Source, slots), [left]);

    write_numbers(&pair, 1001, 1500);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = StopAtEnd(&stop);
        let run = scope.spawn(|| apply_until(&flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
        wait_for_rows(&pair, 1500);
        write_numbers(&pair, 1501, 1600);
        wait_for_rows(&pair, 1600);
        drop(flowing);
        assert_eq!(run.join().unwrap().unwrap().transactions, 600);
    });
    pair.assert_equal("select * from n");
}

#[test]
fn the_stream_follows_also_where_nothing_is_to_be_applied_of_what_comes_last() {
    let pair = Pair::new(NUMBERS, NUMBERS);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    // The last transaction ends while the batch before it is applied: the second one fills that.
    flow.batch_bytes = 30_000;
    pair.source(
        "insert into n select g, 0 from generate_series(1, 60) g; insert into n select g, 0 from generate_series(61, 120) g;
         begin; insert into n values (1000, 0); select pg_logical_emit_message(true, 'pgdetour.scratch', ''); commit",
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = StopAtEnd(&stop);
        let run = scope.spawn(|| apply_until(&flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
        wait_for_rows(&pair, 120);
        pair.source("insert into n values (121, 0)");
        wait_for_rows(&pair, 121);
        drop(flowing);
        assert_eq!(run.join().unwrap().unwrap().skipped, 1);
    });
}

#[test]
fn the_wal_that_was_read_before_is_let_go_before_it_would_be_read_again() {
    let pair = Pair::new(NUMBERS, NUMBERS);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    // Decoding can begin where a checkpoint is; a slot that is moved on comes to the first of them.
    for from in [1, 11, 21] {
        write_numbers(&pair, from, from + 9);
        pair.source("checkpoint");
    }
    pair.source("select pg_replication_slot_advance('pgdetour_mirror', pg_current_wal_flush_lsn())");
    let kept = || -> i64 {
        let read_and_kept = "select pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::bigint
                             from pg_replication_slots where slot_name = 'pgdetour_mirror'";
        pair.client(Side::Source).query_one(read_and_kept, &[]).unwrap().get(0)
    };
    let before = kept();

    pair.source("insert into n values (31, 0)");
    let mut blocker = pair.client(Side::Target);
    blocker.batch_execute("begin; lock table n in exclusive mode").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = StopAtEnd(&stop);
        let run = scope.spawn(|| apply_until(&flow, &Until::Stopped, &stop, Some(BUDGET), &mut |_| ()));
        let deadline = Instant::now() + BUDGET;
        while kept() > before / 2 {
            assert!(
                Instant::now() < deadline,
                "{} of {before} bytes are kept while the first row waits",
                kept()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(pair.rows(Side::Target, "select id from n").len(), 0);
        blocker.batch_execute("commit").unwrap();
        wait_for_rows(&pair, 1);
        drop(flowing);
        run.join().unwrap().unwrap();
    });
}

#[test]
fn where_no_slot_is_to_spare_one_session_or_the_stream_reads_alone() {
    for slots in [1, 2] {
        let pair = Pair::with_settings(&format!("max_replication_slots = {slots}"), NUMBERS, NUMBERS);
        let mut flow = pair.flow(&[]);
        flow.backlog = Some(0);
        write_numbers(&pair, 1, 1000);
        let applied = drain(&flow).unwrap();
        assert_eq!((applied.changes, applied.reached), (2999, true), "with {slots}");
        pair.assert_equal("select * from n");
    }
}

#[test]
fn a_flow_that_reads_in_pieces_and_is_broken_again_and_again_is_exact() {
    let pair = Pair::new(TABLES, TABLES);
    let mut flow = pair.flow(&[]);
    flow.backlog = Some(0);
    break_again_and_again(&pair, &mut flow, "client backend");
}
