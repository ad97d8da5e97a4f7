//! What comes and goes while it is compared is no difference.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pair::{Filters, Size};
use super::*;
use crate::flow::apply::test_pair::Pair as Servers;
use crate::phase::Side;

const TABLE: &str = "create table public.entry (id int4 primary key, body text); create sequence public.read";
/// Tells, as a filter of the source's rows, when they were read.
const COUNTING: &str = "pg_catalog.nextval('public.read') is not null";
const COUNTED: &str = "select last_value from public.read";
const ROW: &str = "insert into public.entry values (1, 'short-lived')";
const GONE: &str = "delete from public.entry where id = 1";

/// Compares the table while `settle`, told how often it was called before, goes on with what the application does.
fn compare(servers: &Servers, settle: &(dyn Fn(usize) + Sync)) -> Comparison {
    compare_sized(servers, 0, &|| {}, settle)
}

/// The same, of a table of so many bytes, after `begin`.
fn compare_sized(
    servers: &Servers,
    bytes: u64,
    begin: &dyn Fn(),
    settle: &(dyn Fn(usize) + Sync),
) -> Comparison {
    let mapping = servers.mapping(&[]).unwrap();
    let (source, target) = (servers.on(Side::Source), servers.on(Side::Target));
    let rules = mapping.by_target().remove(0).iter().map(|rule| Arc::clone(rule)).collect();
    let size = |_: bool, _: &_| Size { bytes, ..Size::default() };
    let mut session = servers.session(Side::Target);
    let filters = Filters { new: Some(COUNTING.to_owned()), ..Filters::default() };
    let pair = Pair::new(&mut session, rules, &size, &filters, None).unwrap();
    let (stop, calls) = (AtomicBool::new(false), Mutex::new(0));
    let settled = |_: &mut Session, _: &mut Session| {
        let mut calls = calls.lock().unwrap();
        settle(*calls);
        *calls += 1;
        Ok(())
    };
    let pairs = [pair];
    let job = Job::of_one(&source, &target, &pairs, &stop, &settled);
    begin();
    compare_tables(&job).unwrap().pop().unwrap()
}

/// Keeps the table of the target from being read until it was read on the source; then the row is deleted on both sides.
fn delete_between_the_readings(servers: &Servers) -> JoinHandle<()> {
    let (mut source, mut target) = (servers.client(Side::Source), servers.client(Side::Target));
    let counted =
        move |source: &mut postgres::Client| -> i64 { source.query_one(COUNTED, &[]).unwrap().get(0) };
    let before = counted(&mut source);
    target.batch_execute(&format!("begin; lock table public.entry; {GONE}")).unwrap();
    thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        while counted(&mut source) == before {
            assert!(Instant::now() < deadline, "the source is not read");
            thread::yield_now();
        }
        source.batch_execute(GONE).unwrap();
        target.batch_execute("commit").unwrap();
    })
}

#[test]
fn a_row_that_is_new_at_one_reading_and_deleted_during_the_next_is_no_difference() {
    let servers = Servers::new(TABLE, TABLE);
    servers.source(ROW);
    let deleting = Mutex::new(None);
    let found = compare(&servers, &|calls| {
        // Written on the source behind the first marker; the second one finds it on the target, too.
        if calls == 1 {
            servers.target(ROW);
            *deleting.lock().unwrap() = Some(delete_between_the_readings(&servers));
        }
    });
    deleting.into_inner().unwrap().expect("the row was deleted").join().unwrap();
    assert!(found.equal, "{found:?}");
    assert_eq!(found.changing, 0);
}

#[test]
fn a_row_that_comes_again_with_the_same_values_each_time_is_changing_and_no_difference() {
    let servers = Servers::new(TABLE, TABLE);
    servers.source(ROW);
    let deleting: Mutex<Option<JoinHandle<()>>> = Mutex::default();
    let found = compare(&servers, &|calls| {
        let mut deleting = deleting.lock().unwrap();
        if let Some(thread) = deleting.take() {
            thread.join().unwrap();
            servers.source(ROW);
        }
        if calls > 0 {
            servers.target(ROW);
            *deleting = Some(delete_between_the_readings(&servers));
        }
    });
    assert!(found.equal, "{found:?}");
    assert_eq!(found.changing, 1);
}

#[test]
fn a_row_that_one_side_lacks_is_a_difference_while_others_come_and_go() {
    let servers = Servers::new(TABLE, TABLE);
    servers.source("insert into public.entry values (2, 'never arrived')");
    let found = compare(&servers, &|calls| {
        if calls > 0 {
            servers.target(&format!("insert into public.entry values (9 + {calls}, 'new')"));
        }
        servers.source(&format!("insert into public.entry values (10 + {calls}, 'new')"));
    });
    assert_eq!((found.equal, found.missing_on_target, found.keys), (false, 1, vec!["(2)".to_owned()]));
}

/// Rows of which eight fill a page. The pages of the first range have room for others, and the last row fits nowhere else.
const PAGES: &str = "alter table public.entry alter body set storage plain;
    insert into public.entry select n, repeat('x', 950) from generate_series(1, 256) as n;
    insert into public.entry values (257, 'alone');
    delete from public.entry where id <= 16";
const MOVED: &str =
    "update public.entry set body = repeat('y', 7000) where id = 257 returning (ctid::text::point)[0]::int";

/// Keeps the target from being read until the source's first pages were, behind which the row moves then; to which page.
fn move_behind_the_reader(servers: &Servers) -> JoinHandle<i32> {
    let (mut source, mut target) = (servers.client(Side::Source), servers.client(Side::Target));
    source.query_one("select nextval('public.read')", &[]).unwrap();
    target.batch_execute("begin; lock table public.entry").unwrap();
    thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        while source.query_one(COUNTED, &[]).unwrap().get::<_, i64>(0) == 1 {
            assert!(Instant::now() < deadline, "the source is not read");
            thread::yield_now();
        }
        let page = source.query_one(MOVED, &[]).unwrap().get(0);
        target.batch_execute("commit").unwrap();
        page
    })
}

#[test]
fn a_row_that_moves_behind_the_reader_and_is_on_one_side_alone_is_a_difference() {
    let servers = Servers::new(TABLE, TABLE);
    for side in [Side::Source, Side::Target] {
        let mut client = servers.client(side);
        client.batch_execute(PAGES).unwrap();
        client.batch_execute("vacuum public.entry").unwrap();
    }
    servers.target("delete from public.entry where id = 257");
    let moving = Mutex::new(None);
    let begin = || *moving.lock().unwrap() = Some(move_behind_the_reader(&servers));
    let found = compare_sized(&servers, 33 * 8192, &begin, &|_| {});
    let page = moving.into_inner().unwrap().expect("the row was moved").join().unwrap();
    assert!(page < 8, "the row is on page {page}");
    assert_eq!(
        (found.equal, found.missing_on_target, found.keys, found.rows_source),
        (false, 1, vec!["(257)".to_owned()], 241)
    );
}
