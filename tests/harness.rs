//! The harness itself: servers come and go as promised, and a lost row is seen.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::detour::{Detour, Serving};
use crate::support::pgbouncer::{self, PgBouncer};
use crate::support::postgres::{DATABASE, Postgres, Shutdown};
use crate::support::scratch::Scratch;
use crate::support::template;
use crate::support::wait::until;
use crate::support::writer::{self, Outcome, Writer};

#[test]
fn a_server_starts_stops_and_recovers_on_the_same_port() {
    let scratch = Scratch::new();
    let mut server = Postgres::start_new(scratch.path(), "source", &template::of_source());
    server.exec("create table public.kept as select 1 as one");
    server.restart(Shutdown::Immediate);
    assert_eq!(server.value::<i32>("select one from public.kept"), 1);
    server.set("wal_level", "replica");
    assert_eq!(server.value::<String>("show wal_level"), "replica");
    server.stop(Shutdown::Fast);
    assert!(server.try_client("dba").is_err(), "a stopped server lets nobody in");
}

#[test]
fn tcp_asks_dba_for_the_password() {
    let scratch = Scratch::new();
    let server = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let conninfo = server.conninfo("dba");
    assert!(postgres::Client::connect(&conninfo, postgres::NoTls).is_ok());
    let error = postgres::Client::connect(&conninfo.replace("password=", "password=not-"), postgres::NoTls);
    let error = error.err().expect("another password is refused");
    assert_eq!(error.code().map(postgres::error::SqlState::code), Some("28P01"));
}

#[test]
fn the_writer_rides_through_a_pause_and_a_lost_row_is_seen() {
    let scratch = Scratch::new();
    let server = Postgres::start_new(scratch.path(), "source", &template::of_source());
    server.exec(writer::TABLES);
    let pooler = PgBouncer::start_new(scratch.path(), server.port());
    let writer = Writer::start(&pooler.conninfo("shop_app"), 2);
    writer.until_acknowledged(50);

    let begun = Instant::now();
    pooler.console(&format!("pause {DATABASE}"));
    assert_eq!(pooler.database("paused"), "1");
    until("the pause has lasted a while", Duration::from_secs(5), || {
        (begun.elapsed() > Duration::from_millis(200)).then_some(())
    });
    pooler.console(&format!("resume {DATABASE}"));
    writer.until_acknowledged(50);
    assert!(writer.longest_gap(begun, Instant::now()) >= Duration::from_millis(200));

    let written = writer.stop();
    assert!(written.errors.is_empty(), "{}", written.errors[0]);
    assert!(written.count(Outcome::Committed) >= 100);
    let mut client = server.client("dba");
    assert_eq!(written.differences(&mut client), Vec::<String>::new());

    for damage in [
        "delete from public.entry where number = 2 and writer = 0",
        "update public.entry set state = 'new' where number = 4 and writer = 1",
        "update public.entry set body = body || '!' where number = 8 and writer = 1",
        "insert into public.entry (writer, number, body) values (0, 1000000, '')",
        "update public.tally set transactions = transactions - 1 where writer = 1",
    ] {
        let mut transaction = client.transaction().expect("a transaction can begin");
        assert_eq!(transaction.execute(damage, &[]).expect("the damage can be done"), 1, "{damage}");
        transaction.commit().expect("it can be committed");
    }
    assert_eq!(written.differences(&mut client).len(), 5, "{:?}", written.differences(&mut client));
}

#[test]
fn the_writer_knows_what_a_crash_of_the_server_leaves_in_doubt() {
    let scratch = Scratch::new();
    let mut server = Postgres::start_new(scratch.path(), "source", &template::of_source());
    server.exec(writer::TABLES);
    let pooler = PgBouncer::start_new(scratch.path(), server.port());
    let writer = Writer::start(&pooler.conninfo("shop_app"), 4);
    writer.until_acknowledged(100);
    // One of them has a transaction open for sure; where the others are is left to chance.
    let mut keeper = server.client("dba");
    keeper
        .batch_execute("begin; select from public.tally order by writer limit 1 for update")
        .expect("it may");
    until("a writer waits", Duration::from_secs(60), || {
        let waiting =
            "select count(*) from pg_stat_activity where usename = 'shop_app' and wait_event_type = 'Lock'";
        (server.value::<i64>(waiting) > 0).then_some(())
    });
    server.restart(Shutdown::Immediate);
    writer.until_acknowledged(100);
    let written = writer.stop();
    assert!(!written.errors.is_empty(), "a crash breaks connections");
    assert_eq!(written.differences(&mut server.client("dba")), Vec::<String>::new());
}

#[test]
fn a_probe_tells_which_server_takes_writes_or_that_none_does() {
    let mut detour = Detour::new();
    detour.target.exec(
        "create table public.probe (id uuid primary key default gen_random_uuid());\n\
         grant select, insert on public.probe to shop_app",
    );
    assert_eq!(detour.who_really_serves(), Serving::Source);
    detour.pooler().console(&format!("pause {DATABASE}"));
    assert_eq!(detour.who_really_serves(), Serving::Nobody);
    let entry = format!("[databases]\n{DATABASE} = {}\n", pgbouncer::entry(detour.target.port()));
    std::fs::write(detour.pooler().databases_file(), entry).expect("the pooler's file can be written");
    detour.pooler().console("reload");
    detour.pooler().console(&format!("resume {DATABASE}"));
    assert_eq!(detour.who_really_serves(), Serving::Target);
    assert_eq!(
        detour.source.value::<i64>("select count(*) from public.probe"),
        1,
        "a late probe was carried out"
    );
    detour.target.stop(Shutdown::Immediate);
    assert_eq!(detour.who_really_serves(), Serving::Nobody);
}

#[test]
fn a_fingerprint_sees_every_kind_of_change() {
    let detour = Detour::new().table("orders");
    for change in [
        "create table public.more (id int)",
        "alter table public.orders add more int",
        "alter table public.orders replica identity full",
        "revoke insert on public.orders from shop_app",
        "insert into public.orders (note) values ('one more')",
        "create function public.f() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger t before insert on public.orders execute function public.f()",
        "alter table public.orders disable trigger t",
        "create publication p for table public.orders",
        "select pg_create_logical_replication_slot('s', 'pgoutput')",
        "alter role shop_app connection limit 0",
        "alter role shop_app in database shop set default_transaction_read_only = on",
        "revoke connect on database shop from public",
        "alter system set work_mem = '5MB'",
        "create schema pgdetour",
    ] {
        let before = detour.fingerprint();
        assert_eq!(detour.fingerprint(), before);
        detour.source.exec(change);
        assert_ne!(detour.fingerprint(), before, "{change}");
    }
}

/// Holds servers until it is killed.
fn wait_to_be_killed() {
    let scratch = Scratch::new();
    let server = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let pooler = PgBouncer::start_new(scratch.path(), server.port());
    println!("\nready {} {}", server.port(), scratch.path().display());
    until("the end", Duration::from_secs(60), || None::<()>);
    drop(pooler);
}

#[test]
fn nothing_is_left_when_the_tests_are_killed() {
    const CHILD: &str = "PGDETOUR_TEST_WAITS_TO_BE_KILLED";
    if std::env::var_os(CHILD).is_some() {
        return wait_to_be_killed();
    }
    let myself = std::env::current_exe().expect("the test binary has a path");
    let mut child = Command::new(myself)
        .args(["--exact", "--nocapture", "harness::nothing_is_left_when_the_tests_are_killed"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary can be started");
    let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut lines = output.lines().map(|line| line.expect("its output is text"));
    let ready = lines.find(|line| line.starts_with("ready ")).expect("it starts its servers");
    let mut words = ready.split_whitespace().skip(1);
    let port: u16 = words.next().and_then(|port| port.parse().ok()).expect("a port");
    let directory = Path::new(words.next().expect("a directory"));
    let processes = || processes_that_name(directory);
    assert!(directory.exists() && processes() >= 2);

    child.kill().expect("SIGKILL can be sent");
    child.wait().expect("it ends");
    until("its servers and its directory are gone", Duration::from_secs(20), || {
        (!directory.exists() && processes() == 0).then_some(())
    });
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// How many processes have `path` in their arguments.
fn processes_that_name(path: &Path) -> usize {
    let path = path.to_str().expect("temporary paths are UTF-8");
    let entries = std::fs::read_dir("/proc").expect("/proc can be read").flatten();
    let arguments = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    arguments.filter(|arguments| arguments.contains(path)).count()
}
