use std::thread;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::Signal;

use super::*;
use crate::config::{self, RouterKind};
use crate::error::Finding;
use crate::pg::test_server::TestServer;
use crate::routers::Routers;
use crate::routers::pgbouncer::test_server::TestPgBouncer;

/// A server whose database `postgres` has a table and the roles of an application.
fn shop() -> TestServer {
    let server = TestServer::start("");
    let setup =
        "create role shop_app login; create role shop_limited login; create table orders (who text, n int);
        grant all on orders to public";
    server.client().batch_execute(setup).expect("a new server takes it");
    server
}

fn entry(server: &TestServer) -> String {
    format!("host=127.0.0.1 port={} dbname=postgres", server.port)
}

fn routers(settings: &[PgBouncerSettings], stored: &[RouterUndo], plan: &Plan) -> Routers {
    let router = config::Router {
        kind: RouterKind::Pgbouncer,
        pgbouncer: settings.to_vec(),
        ..config::Router::default()
    };
    Routers::new(&router, &[], stored, plan, "pgdetour test").expect("the settings are right")
}

fn soon(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

fn count(server: &TestServer) -> i64 {
    server.client().query_one("select count(*) from orders", &[]).expect("it answers").get(0)
}

/// Waits until there are more rows than so many.
fn until_more_than(rows: i64, server: &TestServer) {
    let deadline = soon(30_000);
    while count(server) <= rows {
        assert!(Instant::now() < deadline, "nobody writes there");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Applications that number their rows, every fourth in a transaction of its own; each gives its last number.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<i32, postgres::Error>>>,
}

impl Writers {
    fn start(pooler: &TestPgBouncer, number: usize) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..number).map(|who| {
            let (stop, mut client) = (Arc::clone(&stop), pooler.connect("shop", "shop_app"));
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let insert = format!("insert into orders values ('{who}', {n})");
                    if n % 4 == 0 {
                        client.simple_query("begin")?;
                        client.simple_query(&insert)?;
                        client.simple_query("commit")?;
                    } else {
                        client.simple_query(&insert)?;
                    }
                }
                Ok(n)
            })
        });
        Writers { threads: threads.collect(), stop }
    }

    /// Rows acknowledged by all of them.
    fn end(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        let written =
            self.threads.into_iter().map(|thread| thread.join().expect("no panic").expect("no error"));
        written.map(i64::from).sum()
    }
}

#[test]
fn clients_go_to_the_target_and_home_without_an_error() {
    let (source, target) = (shop(), shop());
    let databases = format!(
        "; by hand\n[databases]\nblog = host=x password=other\n  shop  = {} password='se cret'\n* = host=y\n",
        entry(&source)
    );
    let pooler = TestPgBouncer::start(&databases, "");
    let settings = [pooler.settings(&entry(&target))];
    let writers = Writers::start(&pooler, 4);
    until_more_than(0, &source);

    let mut first = routers(&settings, &[], &Plan::real());
    let checked = first.check(Duration::from_secs(5));
    assert!(checked.failures.is_empty(), "{:?}", checked.failures);
    let undo = first.prepare().expect("the entry is there");
    let stored = serde_json::to_string(&undo).expect("it is JSON");
    assert!(!stored.contains("se cret"), "{stored}");
    let undo: Vec<RouterUndo> = serde_json::from_str(&stored).expect("it was JSON");

    let begun = Instant::now();
    first.hold(soon(5000), &|| Ok(())).expect("the writers' transactions are short");
    let held = begun.elapsed();
    let at_hold = count(&source);
    assert!(first.states()[0].held);
    assert_eq!(first.states()[0].side, Some(Side::Source));
    assert_eq!(first.clients().expect("it answers"), 4);
    first.point_to(Side::Target).expect("it is writable");
    first.point_to(Side::Target).expect("again has no effect");
    assert_eq!(
        first.states()[0],
        RouterState {
            name: first.states()[0].name.clone(),
            held: true,
            disabled: false,
            down: false,
            side: Some(Side::Target),
            live: Some(Side::Target),
            detail: None,
            mend: None
        }
    );
    first.resume().expect("it was held");
    first.resume().expect("again has no effect");
    println!("hold took {held:?}, all {:?}", begun.elapsed());
    until_more_than(20, &target);
    assert_eq!(count(&source), at_hold, "nobody writes to the source any more");

    // Somebody else changes the file meanwhile; another process goes home with what the record has.
    let away = fs::read_to_string(pooler.databases_file()).expect("it is there");
    fs::write(pooler.databases_file(), away.replace("host=y", "host=z")).expect("it is writable");
    drop(first);
    let mut second = routers(&settings, &undo, &Plan::real());
    assert_eq!(second.states()[0].side, Some(Side::Target));
    assert!(second.check(Duration::from_secs(5)).failures.is_empty());
    second.hold(soon(5000), &|| Ok(())).expect("the writers' transactions are short");
    second.point_to(Side::Source).expect("the original is known");
    // Before clients go on: PgBouncer takes a connection that RECONNECT ends in its login for a failing server.
    second.reconnect().expect("the console takes it");
    second.resume().expect("it was held");
    assert_eq!(second.states()[0].side, Some(Side::Source));
    let home = fs::read_to_string(pooler.databases_file()).expect("it is there");
    assert_eq!(home, databases.replace("host=y", "host=z"), "every other byte is as somebody left it");
    until_more_than(at_hold, &source);
    let written = writers.end();
    assert_eq!(count(&source) + count(&target), written, "{}", pooler.log());
}

/// A way to a server on which every connection takes so long to come about; its port.
fn slow_door(server: &TestServer, delay: Duration) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let (port, to) = (listener.local_addr().expect("it is bound").port(), ("127.0.0.1", server.port));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> std::io::Result<()> {
                thread::sleep(delay);
                let server = std::net::TcpStream::connect(to)?;
                let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
                std::io::copy(&mut &server, &mut &client).map(drop)
            });
        }
    });
    port
}

/// Connections to the server that are being opened.
fn logins(console: &mut postgres::Client) -> u32 {
    let pools = console.simple_query("show pools").expect("the console answers");
    let rows = pools.iter().filter_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) if row.get("database") == Some("shop") => Some(row),
        _ => None,
    });
    rows.filter_map(|row| row.get("sv_login")?.parse::<u32>().ok()).sum::<u32>()
}

/// In seconds.
fn login_retry(console: &mut postgres::Client) -> String {
    let config = console.simple_query("show config").expect("the console answers");
    let found = config.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) if row.get("key") == Some("server_login_retry") => {
            row.get("value")
        }
        _ => None,
    });
    found.expect("it has that setting").to_owned()
}

#[test]
fn a_login_to_the_server_that_is_under_way_is_not_cut_off_by_a_hold() {
    let server = shop();
    let through =
        format!("host=127.0.0.1 port={} dbname=postgres", slow_door(&server, Duration::from_millis(700)));
    let pooler = TestPgBouncer::start(&format!("[databases]\nshop = {through}\n"), "");
    let mut routers = routers(&[pooler.settings(&entry(&server))], &[], &Plan::real());
    let mut console = pooler.connect("pgbouncer", "dba");
    let mut logins = || logins(&mut console);
    let mut first = pooler.connect("shop", "shop_app");
    let mut second = pooler.connect("shop", "shop_app");
    first.simple_query("begin").expect("it answers");
    // A second client asks for a second connection, and is served by the first before there is one.
    let waiting = thread::spawn(move || second.simple_query("select 1").map(drop));
    let deadline = soon(10_000);
    while logins() == 0 {
        assert!(Instant::now() < deadline, "no second connection is opened");
    }
    first.simple_query("commit").expect("it answers");
    waiting.join().expect("no panic").expect("it is served");
    assert_eq!(logins(), 1, "the second connection is still being opened");
    routers.hold(soon(10_000), &|| Ok(())).expect("nothing is open");
    routers.resume().expect("it was held");
    first.simple_query("select 1").expect("no client sees an error");
}

#[test]
fn a_login_that_a_hold_does_cut_off_keeps_nobody_waiting() {
    let (source, target) = (shop(), shop());
    // Longer than a hold waits for logins.
    let through =
        format!("host=127.0.0.1 port={} dbname=postgres", slow_door(&source, Duration::from_secs(20)));
    let databases = format!("[databases]\nshop = {through}\n");
    let pooler = TestPgBouncer::start(&databases, "server_login_retry = 60");
    let mut console = pooler.connect("pgbouncer", "dba");
    let client = thread::spawn({
        let conninfo = pooler.conninfo("shop", "shop_app");
        move || postgres::Client::connect(&conninfo, postgres::NoTls)?.simple_query("select 1").map(drop)
    });
    let deadline = soon(10_000);
    while logins(&mut console) == 0 {
        assert!(Instant::now() < deadline, "no connection is opened");
    }
    let mut router = routers(&[pooler.settings(&entry(&target))], &[], &Plan::real());
    router.prepare().expect("the entry is there");
    router.hold(soon(10_000), &|| Ok(())).expect("nothing is open");
    assert_eq!(logins(&mut console), 0, "it was cut off");
    router.point_to(Side::Target).expect("it is writable");
    let gone_on = Instant::now();
    router.resume().expect("it was held");
    client.join().expect("no panic").expect("it is served");
    assert!(gone_on.elapsed() < Duration::from_secs(20), "{}", pooler.log());
    assert_eq!(login_retry(&mut console), "0");
    router.settle().expect("clients go on");
    assert_eq!(login_retry(&mut console), "60");

    // Another process has no need to know.
    router.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    router.resume().expect("it was held");
    let mut next = routers(&[pooler.settings(&entry(&target))], &[], &Plan::real());
    next.settle().expect("clients go on");
    assert_eq!(login_retry(&mut console), "60");
    // Clients that go on where they cannot be served yet.
    next.resume().expect("clients go on already");
    next.try_on().expect("the console takes parts of a second");
    assert_eq!(login_retry(&mut console), "0.9");
    next.settle().expect("clients go on");
    assert_eq!(login_retry(&mut console), "60");
    // What somebody has set for the time being stays.
    console.simple_query("set server_login_retry = 7").expect("we are an admin");
    next.resume().expect("clients go on already");
    next.settle().expect("clients go on");
    assert_eq!(login_retry(&mut console), "7");
}

#[test]
fn a_pooler_that_hangs_past_the_decision_keeps_no_client_of_another_one() {
    let (source, target) = (shop(), shop());
    let databases = format!("[databases]\nshop = {}\n", entry(&source));
    let (one, two) = (TestPgBouncer::start(&databases, ""), TestPgBouncer::start(&databases, ""));
    let settings = [one.settings(&entry(&target)), two.settings(&entry(&target))];
    let mut both = routers(&settings, &[], &Plan::real());
    both.prepare().expect("both entries are there");
    let mut client = one.connect("shop", "shop_app");
    let mut served_by = || {
        let row =
            client.query_one("select pg_catalog.inet_server_port()", &[]).expect("no client sees an error");
        row.get::<_, i32>(0)
    };
    assert_eq!(served_by(), i32::from(source.port));
    for (side, server) in [(Side::Target, &target), (Side::Source, &source)] {
        both.hold(soon(2000), &|| Ok(())).expect("nothing is open");
        two.signal(Signal::STOP);
        thread::scope(|scope| {
            let pointing = scope.spawn(|| both.point_to(side));
            assert_eq!(served_by(), i32::from(server.port));
            assert!(!pointing.is_finished(), "the other hangs");
            two.signal(Signal::CONT);
            pointing.join().expect("no panic").expect("it answers again");
        });
        both.resume().expect("one was held");
    }
}

#[test]
fn a_hold_that_meets_an_open_transaction_is_taken_back_and_names_it() {
    let (source, target) = (shop(), shop());
    let pooler = TestPgBouncer::start(&format!("[databases]\nshop = {}\n", entry(&source)), "");
    let mut routers = routers(&[pooler.settings(&entry(&target))], &[], &Plan::real());
    let mut busy = pooler.connect("shop", "shop_app");
    busy.simple_query("begin").expect("it answers");
    let begun = Instant::now();
    let error = routers.hold(soon(400), &|| Ok(())).expect_err("a transaction is open");
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    let Error::TimedOut { what, detail: Some(detail), .. } = &error else { panic!("{error:?}") };
    assert!(what.starts_with("PAUSE \"shop\" on pgbouncer 127.0.0.1:"), "{what}");
    assert!(detail.contains("as \"shop_app\", last request at 20"), "{detail}");
    assert!(!routers.states()[0].held);
    let mut other = pooler.connect("shop", "shop_limited");
    other.simple_query("insert into orders values ('b', 1)").expect("clients go on");
    busy.simple_query("commit").expect("its transaction was left alone");
    routers.hold(soon(2000), &|| Ok(())).expect("nothing is open any more");
    routers.resume().expect("it was held");
    other.simple_query("insert into orders values ('b', 2)").expect("clients go on");
}

#[test]
fn a_pause_whose_client_was_killed_is_seen_and_ended_by_the_next_run() {
    let (source, target) = (shop(), shop());
    let pooler = TestPgBouncer::start(&format!("[databases]\nshop = {}\n", entry(&source)), "");
    let mut busy = pooler.connect("shop", "shop_app");
    busy.simple_query("begin").expect("it answers");
    let mut killed = Command::new("psql")
        .args(["-X", "-c", "PAUSE shop", &pooler.conninfo("pgbouncer", "dba")])
        .stdout(Stdio::null())
        .spawn()
        .expect("psql runs");
    let mut routers = routers(&[pooler.settings(&entry(&target))], &[], &Plan::real());
    let begun = Instant::now();
    while !routers.states()[0].held {
        assert!(begun.elapsed() < Duration::from_secs(10), "psql pauses");
        thread::sleep(Duration::from_millis(10));
    }
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");
    busy.simple_query("commit").expect("it answers");
    assert!(routers.states()[0].held, "a pause outlives its client");
    let checks: Vec<_> = routers.check(Duration::from_secs(5)).failures.iter().map(|it| it.check).collect();
    assert_eq!(checks, ["router_paused"]);
    routers.resume().expect("it is paused");
    assert!(!routers.states()[0].held);
    busy.simple_query("select 1").expect("clients go on");
}

#[test]
fn two_processes_are_held_together_or_not_at_all_and_one_that_fails_keeps_no_client_of_the_other() {
    let (source, target) = (shop(), shop());
    let databases = format!("[databases]\nshop = {}\n", entry(&source));
    let (one, two) = (TestPgBouncer::start(&databases, ""), TestPgBouncer::start(&databases, ""));
    let settings = [one.settings(&entry(&target)), two.settings(&entry(&target))];
    let mut both = routers(&settings, &[], &Plan::real());
    assert_eq!(both.prepare().expect("both entries are there").len(), 2);

    let mut busy = two.connect("shop", "shop_app");
    busy.simple_query("begin").expect("it answers");
    let error = both.hold(soon(300), &|| Ok(())).expect_err("the second has an open transaction");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(both.states().iter().all(|state| !state.held), "the first is taken back too");
    let begun = Instant::now();
    let interrupted = || {
        if begun.elapsed() < Duration::from_millis(200) {
            Ok(())
        } else {
            Err(Error::Interrupted { signal: 2 })
        }
    };
    let error = both.hold(soon(60_000), &interrupted).expect_err("somebody has interrupted it");
    assert!(matches!(error, Error::Interrupted { signal: 2 }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(both.states().iter().all(|state| !state.held), "both are taken back");
    busy.simple_query("commit").expect("it answers");

    // The second does not read its file any more.
    let main = fs::read_to_string(two.main_file()).expect("it is there");
    fs::copy(two.databases_file(), two.path().join("elsewhere.ini")).expect("it is there");
    Command::new("chmod").arg("644").arg(two.path().join("elsewhere.ini")).status().expect("chmod runs");
    fs::write(two.main_file(), main.replace("/databases.ini", "/elsewhere.ini")).expect("it is writable");
    let findings: Vec<_> = both.check(Duration::from_secs(5)).failures;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.ends_with("does not read it"), "{findings:?}");
    both.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    let error = both.point_to(Side::Target).expect_err("the second stays where it is");
    assert!(error.to_string().contains("after RELOAD it uses host=127.0.0.1"), "{error}");
    let states = both.states();
    assert_eq!((states[0].held, states[0].side), (false, Some(Side::Target)), "{states:?}");
    assert_eq!((states[1].held, states[1].live), (true, Some(Side::Source)), "{states:?}");
    fs::write(two.main_file(), main).expect("it is writable");
    both.point_to(Side::Target).expect("both follow");
    both.resume().expect("both were held");
    assert!(both.states().iter().all(|state| !state.held && state.side == Some(Side::Target)));

    // One process gone: the other is still asked and resumed.
    let name = both.states()[0].name.clone();
    drop(one);
    let states = both.states();
    assert_eq!((states[0].side, states[1].side), (None, Some(Side::Target)));
    assert!(states[0].detail.as_ref().is_some_and(|detail| detail.contains(&name)), "{states:?}");
    let error = both.hold(soon(2000), &|| Ok(())).expect_err("one is gone");
    assert!(!both.states()[1].held, "{error:?}");
}

#[test]
fn two_processes_may_share_one_file() {
    let (source, target) = (shop(), shop());
    let one = TestPgBouncer::start(&format!("[databases]\nshop = {} password=x\n", entry(&source)), "");
    let two = TestPgBouncer::start("", "");
    let shared = fs::read_to_string(two.main_file()).expect("it is there");
    let [from, to] = [two.databases_file(), one.databases_file()].map(|path| path.display().to_string());
    fs::write(two.main_file(), shared.replace(&from, &to)).expect("it is writable");
    assert!(Command::new("chmod").arg("755").arg(one.path()).status().expect("chmod runs").success());
    two.connect("pgbouncer", "dba").simple_query("RELOAD").expect("the console takes it");
    let mut second = two.settings(&entry(&target));
    second.config = one.databases_file();
    let settings = [one.settings(&entry(&target)), second];
    let mut both = routers(&settings, &[], &Plan::real());
    let checked = both.check(Duration::from_secs(5));
    assert!(checked.failures.is_empty(), "{:?}", checked.failures);
    let before = fs::read(one.databases_file()).expect("it is there");
    let undo = both.prepare().expect("the entry is there");
    both.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    both.point_to(Side::Target).expect("both follow");
    both.resume().expect("both were held");
    let mut both = routers(&settings, &undo, &Plan::real());
    assert!(both.states().iter().all(|state| state.side == Some(Side::Target)), "{:?}", both.states());
    both.point_to(Side::Source).expect("the original is known");
    assert!(both.states().iter().all(|state| state.side == Some(Side::Source)), "{:?}", both.states());
    assert_eq!(fs::read(one.databases_file()).expect("it is there"), before);
}

/// One of several hosts that have the same path for their file, which `file_command` leads to; `more` is for the console.
fn on_a_host(pooler: &TestPgBouncer, target: &TestServer, more: &str) -> PgBouncerSettings {
    let mut settings = pooler.settings(&entry(target));
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/replace-file");
    let call = format!("exec {} \"$1\" {}", script.display(), settings.config.display());
    settings.file_command = Some(["sh", "-c", &call, "sh"].map(str::to_owned).to_vec());
    settings.config = "/etc/pgbouncer/databases.ini".into();
    settings.admin += more;
    settings
}

#[test]
fn each_of_several_hosts_gets_its_own_entry_back_however_it_is_named_by_then() {
    let (source, target) = (shop(), shop());
    let poolers = ["pool_size=50", "pool_size=5 connect_query='select 1'"]
        .map(|own| TestPgBouncer::start(&format!("[databases]\nshop = {} {own}\n", entry(&source)), ""));
    let files =
        || poolers.each_ref().map(|one| fs::read_to_string(one.databases_file()).expect("it is there"));
    let before = files();
    // libpq knows more keys than the driver of the console does.
    let [one, two] = poolers.each_ref().map(|pooler| on_a_host(pooler, &target, " passfile=/nowhere"));
    let elsewhere = |settings: &PgBouncerSettings| PgBouncerSettings {
        admin: settings.admin.replace("127.0.0.1", "localhost"),
        ..settings.clone()
    };
    let mut both = routers(&[one.clone(), two.clone()], &[], &Plan::real());
    let undo = both.prepare().expect("the entries are there");
    // As a version noted them that did not know the key.
    let nameless: Vec<RouterUndo> = undo
        .iter()
        .map(|undo| match undo.clone() {
            RouterUndo::PgBouncer(undo) => {
                RouterUndo::PgBouncer(PgBouncerUndo { console: "pgbouncer".into(), ..undo })
            }
            other @ RouterUndo::HaProxy(_) => other,
        })
        .collect();
    let later = [
        (&undo, vec![one.clone(), two.clone()]),
        (&undo, vec![two.clone(), one.clone()]),
        (&undo, vec![two.clone(), elsewhere(&one)]),
        (&undo, vec![elsewhere(&one), elsewhere(&two)]),
        (&nameless, vec![one.clone(), two.clone()]),
    ];
    for (at, (undo, settings)) in later.into_iter().enumerate() {
        both.point_to(Side::Target).expect("both follow");
        assert!(files().iter().all(|file| file.contains(&entry(&target))), "{:?}", files());
        routers(&settings, undo, &Plan::real()).point_to(Side::Source).expect("the originals are known");
        assert_eq!(files(), before, "{at}");
    }

    // Of one that has come since nobody knows what its entry was.
    let third = TestPgBouncer::start(&format!("[databases]\nshop = {}\n", entry(&target)), "");
    let mut three = routers(&[one, two, on_a_host(&third, &target, "")], &undo, &Plan::real());
    let error = three.point_to(Side::Source).expect_err("it has no original");
    assert!(error.with_cause().contains("the original entry is not known"), "{}", error.with_cause());
}

#[test]
fn two_that_would_move_the_same_clients_are_refused() {
    let pooler = |admin: &str, database: &str| PgBouncerSettings {
        admin: format!("{admin} port=6432 dbname=pgbouncer user=pgbouncer"),
        database: database.into(),
        config: "/etc/pgbouncer/databases.ini".into(),
        target: "host=db2".into(),
        source: None,
        file_command: None,
    };
    let refused = |one, two| {
        let router = config::Router {
            kind: RouterKind::Pgbouncer,
            pgbouncer: vec![one, two],
            ..config::Router::default()
        };
        Routers::new(&router, &[], &[], &Plan::real(), "pgdetour test").err().map(|error| error.with_cause())
    };
    let refusal = "two [[router.pgbouncer]] are for database \"shop\" of pgbouncer 10.0.0.5:6432";
    let known = |database| pooler("host=10.0.0.5 passfile=/nowhere", database);
    assert_eq!(refused(known("shop"), pooler("host=10.0.0.5", "shop")).as_deref(), Some(refusal));
    assert_eq!(refused(known("shop"), known("reports")), None);
    let of_one_name = |address: &str| pooler(&format!("host=pool hostaddr={address}"), "shop");
    assert_eq!(refused(of_one_name("10.0.0.5"), of_one_name("10.0.0.6")), None);
}

#[test]
fn check_names_everything_that_would_fail_later() {
    let source = shop();
    let databases = format!("[databases]\nshop = {} pool_mode=session\n", entry(&source));
    let pooler = TestPgBouncer::start(&databases, "query_wait_timeout = 5\nso_reuseport = 1");
    let findings = |settings: &PgBouncerSettings| {
        let checked =
            routers(std::slice::from_ref(settings), &[], &Plan::real()).check(Duration::from_secs(5));
        let failures: Vec<_> = checked.failures.iter().map(|it| it.check).collect();
        let warnings: Vec<_> = checked.warnings.iter().map(|it| it.check).collect();
        (failures, warnings)
    };
    let right = pooler.settings("host=db2 dbname=shop");
    let limits = ["router_pool_mode", "router_query_wait_timeout"];
    let warned = vec!["router_target", "router_so_reuseport"];
    assert_eq!(findings(&right), (limits.to_vec(), warned));
    let stats = PgBouncerSettings { admin: pooler.conninfo("pgbouncer", "stats"), ..right.clone() };
    assert_eq!(findings(&stats).0, ["router_admin", "router_pool_mode", "router_query_wait_timeout"]);
    let with = |target: &str| findings(&pooler.settings(target)).0;
    assert_eq!(with("host=db2 sslmode=require"), ["router_target", limits[0], limits[1]]);
    assert_eq!(with(&format!("{} pool_size=3", entry(&source))), [limits[0], limits[1], "router_target"]);
    assert_eq!(with("host=db2 user=shop_limited"), [limits[0], limits[1], "router_user"]);
    let nowhere = PgBouncerSettings { config: "/nowhere/databases.ini".into(), ..right.clone() };
    assert_eq!(findings(&nowhere).0, ["router_file", limits[0], limits[1]]);
    let unknown = PgBouncerSettings { database: "blog".into(), ..right.clone() };
    assert_eq!(findings(&unknown).0, ["router_entry", "router_database"]);
    let wildcard = PgBouncerSettings { database: "*".into(), ..right.clone() };
    fs::write(pooler.databases_file(), format!("{databases}* = {}\n", entry(&source))).expect("ours");
    let checked = routers(&[wildcard], &[], &Plan::real()).check(Duration::from_secs(5));
    assert_eq!(checked.failures.len(), 1, "{checked:?}");
    let Finding { message, hint, .. } = &checked.failures[0];
    assert!(message.contains("\"*\" stands for databases without an entry"), "{message}");
    assert!(hint.starts_with("Give the database that general traffic uses an entry of its own"), "{hint}");
    let gone = PgBouncerSettings { admin: "host=127.0.0.1 port=1 user=dba".into(), ..right };
    assert_eq!(findings(&gone).0, ["router_reachable"]);
    fs::write(pooler.databases_file(), "[databases]\nshop = host=elsewhere\n").expect("it is writable");
    assert!(with("host=db2").contains(&"router_drift"));
}

/// That the way home is stored tells nothing of where clients are: a rehearsal stores it, too.
#[test]
fn settings_that_only_the_present_entry_has_are_named_until_clients_are_on_the_target() {
    let (source, target) = (shop(), shop());
    let databases = format!("[databases]\nshop = {} pool_size=7 timezone=UTC\n", entry(&source));
    let pooler = TestPgBouncer::start(&databases, "");
    let settings = [pooler.settings(&format!("{} pool_size=5", entry(&target)))];
    let said = |routers: &mut Routers| {
        let checked = routers.check(Duration::from_secs(5));
        checked.warnings.into_iter().map(|it| it.message).collect::<Vec<_>>()
    };
    let lost = "the present entry has timezone, and \"target\" has not";
    let mut first = routers(&settings, &[], &Plan::real());
    assert_eq!(said(&mut first), [lost]);
    let undo = first.prepare().expect("the entry is there");
    assert_eq!(said(&mut first), [lost]);
    let mut second = routers(&settings, &undo, &Plan::real());
    assert_eq!(said(&mut second), [lost]);
    second.point_to(Side::Target).expect("it is writable");
    assert!(said(&mut second).is_empty());
    second.point_to(Side::Source).expect("the original is known");
    assert_eq!(said(&mut second), [lost]);
}

#[test]
fn clients_of_a_forced_user_follow_it_and_a_new_one_is_refused() {
    let (source, target) = (shop(), shop());
    let databases =
        format!("[databases]\nshop = {} user=shop_app\nown = {}\n", entry(&source), entry(&source));
    let pooler = TestPgBouncer::start(&databases, "");
    let mut settings = pooler.settings(&format!("{} user=shop_limited", entry(&target)));
    let who = |client: &mut postgres::Client| match &client
        .simple_query("select session_user")
        .expect("it answers")[1]
    {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).unwrap_or_default().to_owned(),
        _ => panic!("the first message is the description"),
    };
    let mut old = pooler.connect("shop", "postgres");
    assert_eq!(who(&mut old), "shop_app");
    let mut router = routers(std::slice::from_ref(&settings), &[], &Plan::real());
    let checked = router.check(Duration::from_secs(5));
    assert!(checked.failures.is_empty(), "{:?}", checked.failures);
    assert_eq!(checked.warnings.iter().map(|it| it.check).collect::<Vec<_>>(), ["router_user"]);
    router.prepare().expect("the entry is there");
    router.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    router.point_to(Side::Target).expect("it is writable");
    router.resume().expect("it was held");
    assert_eq!(
        (who(&mut old), who(&mut pooler.connect("shop", "postgres"))),
        ("shop_limited".into(), "shop_limited".into())
    );
    router.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    router.point_to(Side::Source).expect("the original is known");
    router.resume().expect("it was held");
    assert_eq!(who(&mut old), "shop_app");

    // Why check refuses a user= that only the target's entry has: the way home fails.
    settings.database = "own".into();
    let mut before = pooler.connect("own", "shop_app");
    assert_eq!(who(&mut before), "shop_app");
    let mut router = routers(&[settings], &[], &Plan::real());
    assert_eq!(router.check(Duration::from_secs(5)).failures[0].check, "router_user");
    router.prepare().expect("the entry is there");
    router.hold(soon(2000), &|| Ok(())).expect("nothing is open");
    router.point_to(Side::Target).expect("it is writable");
    router.resume().expect("it was held");
    assert_eq!(
        (who(&mut before), who(&mut pooler.connect("own", "shop_app"))),
        ("shop_app".into(), "shop_limited".into())
    );
    let error = router.point_to(Side::Source).expect_err("PgBouncer keeps a forced user");
    assert!(error.to_string().contains("user=shop_limited, and its file says"), "{error}");
    assert_eq!(router.states()[0].side, None);
}

#[test]
fn a_dry_run_notes_every_action_and_does_none() {
    let source = shop();
    let databases = format!("[databases]\nshop = {} password=secret\n", entry(&source));
    let pooler = TestPgBouncer::start(&databases, "");
    let plan = Plan::dry();
    let mut router = routers(&[pooler.settings("host=db2 password=secret")], &[], &plan);
    router.prepare().expect("the entry is there");
    router.hold(soon(100), &|| Ok(())).expect("it is only noted");
    router.point_to(Side::Target).expect("it is only noted");
    router.resume().expect("it is only noted");
    router.reconnect().expect("it is only noted");
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    let rewrite = format!(
        "rewrite {}:2\n- shop = {} password=***\n+ shop = host=db2 password=***",
        pooler.databases_file().display(),
        entry(&source)
    );
    assert_eq!(actions, ["PAUSE \"shop\"", &rewrite, "RELOAD", "RESUME \"shop\"", "RECONNECT \"shop\""]);
    assert_eq!(fs::read_to_string(pooler.databases_file()).expect("it is there"), databases);
    assert!(!router.states()[0].held);
    assert!(!pooler.log().contains("PAUSE"));
}

#[test]
fn two_databases_of_one_process_are_told_apart() {
    let (server, target) = (shop(), shop());
    let databases = format!("[databases]\nshop = {0}\nnews = {0}\n", entry(&server));
    let pooler = TestPgBouncer::start(&databases, "");
    let shop = pooler.settings(&entry(&target));
    let mut news = shop.clone();
    news.database = "news".into();
    let alone = routers(std::slice::from_ref(&shop), &[], &Plan::real()).states()[0].name.clone();
    let mut both = routers(&[shop, news], &[], &Plan::real());
    let names: Vec<String> = both.states().into_iter().map(|state| state.name).collect();
    assert_eq!(names, [format!("{alone} shop"), format!("{alone} news")]);
    let undo = both.prepare().expect("both entries are there");
    let of_console = |undo: &RouterUndo| matches!(undo, RouterUndo::PgBouncer(undo) if undo.console == alone);
    assert!(undo.iter().all(of_console), "{undo:?}");
}

#[test]
fn what_a_reload_would_change_of_the_settings_is_told_before() {
    let server = shop();
    let pooler = TestPgBouncer::start(
        &format!("[databases]\nshop = {}\n", entry(&server)),
        "query_wait_timeout = 60.0\npool_mode = Session\nlog_connections = 0",
    );
    let mut console = pooler.connect("pgbouncer", "dba");
    for set in ["pool_mode = 'transaction'", "query_wait_timeout = 90", "default_pool_size = 7"] {
        console.simple_query(&format!("SET {set}")).expect("we are an admin");
    }
    let mut router = routers(&[pooler.settings(&entry(&server))], &[], &Plan::real());
    let mut found = |check: &str| {
        let checked = router.check(Duration::from_secs(5));
        let all = checked.failures.into_iter().chain(checked.warnings);
        let mut messages: Vec<String> =
            all.filter(|finding| finding.check == check).map(|finding| finding.message).collect();
        messages.sort();
        messages
    };
    let told = found("router_setting");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("default_pool_size is 7, and its files say 20:"), "{told:?}");
    assert!(told[1].starts_with("query_wait_timeout is 90, and its files say 60.0:"), "{told:?}");
    let modes = found("router_pool_mode");
    assert!(
        modes.iter().any(|told| told.starts_with("pool_mode is transaction, and its files say")),
        "{modes:?}"
    );
    console.simple_query("RELOAD").expect("we are an admin");
    assert!(found("router_setting").is_empty(), "it has taken them on");
    assert!(found("router_pool_mode").iter().all(|told| !told.starts_with("pool_mode is")), "this, too");

    // What the files say holds once a switch has reloaded them.
    let mut another = routers(&[pooler.settings(&entry(&server))], &[], &Plan::real());
    let mut too_short = |budget: u64| {
        let failures = another.check(Duration::from_secs(budget)).failures;
        failures.into_iter().find(|finding| finding.check == "router_query_wait_timeout")
    };
    assert!(too_short(75).is_some_and(|it| it.message.contains("that wait 60 s, and")));
    console.simple_query("SET query_wait_timeout = 200").expect("we are an admin");
    let of_files = too_short(75).expect("its files say 60");
    assert!(of_files.message.contains("its files say query_wait_timeout = 60.0, which"), "{of_files:?}");
    assert!(of_files.hint.contains("Write query_wait_timeout = 150 into its file"), "{of_files:?}");
    assert!(too_short(30).is_none());
    console.simple_query("RELOAD").expect("we are an admin");

    // At a further [pgbouncer] everything goes back to its default.
    let path = pooler.main_file();
    let text = fs::read_to_string(&path).expect("ours");
    let twice = format!("[pgbouncer]\ndefault_pool_size = 50\nreserve_pool_timeout = 7\n{text}");
    fs::write(&path, twice).expect("ours");
    console.simple_query("RELOAD").expect("we are an admin");
    let told = found("router_setting");
    assert!(told.is_empty(), "{told:?}");
}
