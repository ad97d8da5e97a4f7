//! The pause of cutover and cutback as clients see it, through PgBouncer, beside PAUSE, RELOAD and RESUME by hand in the same run.
//!
//! The environment varies it: `PGDETOUR_BENCH_ROUNDS` (20 switches each way), `_CLIENTS` that write (8), `_CONNECTIONS` beside
//! them that are seldom busy (0), `_SEQUENCES` (10), `_TABLES` (10), `_ROUND_TRIP_MS` to each server (0).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

#[path = "../tests/support"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod measure;
    pub mod pgbouncer;
    pub mod port;
    pub mod postgres;
    pub mod proxy;
    pub mod scratch;
    pub mod template;
    pub mod wait;
}

use support::measure::{median, number};
use support::pgbouncer::{self, PgBouncer};
use support::postgres::{DATABASE, Postgres};
use support::proxy::Proxy;
use support::scratch::Scratch;
use support::template;

fn main() {
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 20);
    let clients = number("PGDETOUR_BENCH_CLIENTS", 8);
    let connections = number("PGDETOUR_BENCH_CONNECTIONS", 0);
    let sequences = number("PGDETOUR_BENCH_SEQUENCES", 10);
    let tables = number("PGDETOUR_BENCH_TABLES", 10);
    let round_trip = number("PGDETOUR_BENCH_ROUND_TRIP_MS", 0);
    let scratch = Scratch::new();
    let source = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let target = Postgres::start_new(scratch.path(), "target", &template::of_target());
    for server in [&source, &target] {
        server.exec("alter system set max_locks_per_transaction = 1024");
        // PostgreSQL's default: what the tests have holds less than a page of each of thousands of sequences.
        server.exec("alter system set shared_buffers = '128MB'");
    }
    let (mut source, mut target) = (source, target);
    source.restart(support::postgres::Shutdown::Fast);
    target.restart(support::postgres::Shutdown::Fast);
    source.exec(&objects(clients, tables, sequences));
    let proxies = [Proxy::start(source.port()), Proxy::start(target.port())];
    let ports = if round_trip > 0 {
        for proxy in &proxies {
            proxy.delay(Duration::from_millis(u64::from(round_trip)) / 2);
        }
        [proxies[0].port(), proxies[1].port()]
    } else {
        [source.port(), target.port()]
    };
    let pooler = PgBouncer::start_new(scratch.path(), ports[0]);
    let configuration = configure(scratch.path(), &source, &target, ports, &pooler);
    let traffic = Traffic::start(&pooler.conninfo("shop_app"), clients, connections);

    let mut out = Samples::default();
    let mut home = Samples::default();
    let mut by_hand = Samples::default();
    for _ in 0..rounds {
        pgdetour(&configuration, &["mirror", "--jobs", "2"]);
        by_hand.add(&traffic, || switch_by_hand(&pooler, ports[0]));
        out.add(&traffic, || pause_ms(&pgdetour(&configuration, &["cutover", "--max-lag", "1GB"])));
        pgdetour(&configuration, &["replay"]);
        home.add(&traffic, || pause_ms(&pgdetour(&configuration, &["cutback"])));
        pgdetour(&configuration, &["clean", "--drop-data"]);
    }
    let errors = traffic.stop();
    let mut line = format!(
        "{{\"rounds\": {rounds}, \"clients\": {clients}, \"connections\": {connections}, \"sequences\": {sequences}, \
         \"tables\": {tables}, \"round_trip_ms\": {round_trip}, \"client_errors\": {}",
        errors.len()
    );
    let floor = median(&by_hand.seen);
    for (name, samples) in [("by_hand", &by_hand), ("cutover", &out), ("cutback", &home)] {
        let _ = write!(
            line,
            ", \"{name}\": {{\"seen_median_ms\": {:.1}, \"seen_worst_ms\": {:.1}, \"pause_median_ms\": {:.1}, \
             \"pause_worst_ms\": {:.1}, \"seen_ratio\": {:.2}}}",
            median(&samples.seen),
            worst(&samples.seen),
            median(&samples.said),
            worst(&samples.said),
            median(&samples.seen) / floor
        );
    }
    println!("{line}}}");
    errors.iter().take(3).for_each(|error| eprintln!("client error: {error}"));
}

/// What one kind of switch took, in milliseconds: the longest time that a client went without an answer, and what we were told.
#[derive(Default)]
struct Samples {
    seen: Vec<f64>,
    said: Vec<f64>,
}

impl Samples {
    fn add(&mut self, traffic: &Traffic, switch: impl FnOnce() -> f64) {
        traffic.until_served();
        let begun = Instant::now();
        self.said.push(switch());
        traffic.until_served();
        self.seen.push(traffic.longest_gap(begun).as_secs_f64() * 1000.0);
    }
}

fn switch_by_hand(pooler: &PgBouncer, port: u16) -> f64 {
    let mut console = Client::connect(&pooler.console_conninfo(), NoTls).expect("the console answers");
    let mut say = |command: &str| console.simple_query(command).expect("the console obeys");
    // A login that PAUSE cuts off would have the clients see errors: whoever knows PgBouncer well waits for a moment without one.
    support::wait::until("no login is under way", Duration::from_secs(30), || {
        let pools = say("show pools");
        let logins = pools.iter().filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => {
                Some(row.get("sv_login")?.parse::<u32>().ok()? + row.get("cl_waiting")?.parse::<u32>().ok()?)
            }
            _ => None,
        });
        (logins.sum::<u32>() == 0).then_some(())
    });
    let begun = Instant::now();
    say(&format!("pause {DATABASE}"));
    let entry = format!("[databases]\n{DATABASE} = {}\n", pgbouncer::entry(port));
    std::fs::write(pooler.databases_file(), entry).expect("the pooler's file can be written");
    say("reload");
    say(&format!("resume {DATABASE}"));
    begun.elapsed().as_secs_f64() * 1000.0
}

fn objects(clients: u32, tables: u32, sequences: u32) -> String {
    let mut text = String::from(
        "create table public.account (id int primary key, balance int not null);\n\
         create table public.history (id bigint generated by default as identity primary key, account int, delta int);\n\
         grant select, insert, update, delete on all tables in schema public to shop_app;\n\
         grant usage on all sequences in schema public to shop_app;\n",
    );
    let _ = writeln!(text, "insert into public.account select n, 0 from generate_series(0, {clients}) as n;");
    for n in 0..tables {
        let _ = writeln!(
            text,
            "create table public.t{n} (id int primary key); insert into public.t{n} values (1);"
        );
    }
    for n in 0..sequences {
        let _ = writeln!(text, "create sequence public.s{n}; select setval('public.s{n}', {n} + 1);");
    }
    text
}

fn configure(
    folder: &Path,
    source: &Postgres,
    target: &Postgres,
    ports: [u16; 2],
    pooler: &PgBouncer,
) -> PathBuf {
    let through = |server: &Postgres, port: u16| {
        server.conninfo("dba").replace(&format!("port={}", server.port()), &format!("port={port}"))
    };
    let text = format!(
        "[source]\nconninfo = \"{}\"\n[target]\nconninfo = \"{}\"\n[traffic]\nroles = [\"shop_app\"]\n\
         [router]\nkind = \"pgbouncer\"\n[[router.pgbouncer]]\nadmin = \"{}\"\ndatabase = \"{DATABASE}\"\n\
         config = \"{}\"\ntarget = \"{}\"\n",
        through(source, ports[0]),
        through(target, ports[1]),
        pooler.console_conninfo(),
        pooler.databases_file().display(),
        pgbouncer::entry(ports[1]),
    );
    let path = folder.join("pgdetour.toml");
    std::fs::write(&path, text).expect("the scratch directory can be written");
    path
}

fn pgdetour(configuration: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pgdetour"))
        .args(arguments)
        .args(["--json", "--yes", "--quiet", "--config"])
        .arg(configuration)
        .output()
        .expect("the program can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    if std::env::var_os("PGDETOUR_BENCH_SHOW").is_some() && arguments[0].starts_with("cut") {
        eprintln!("{text}");
    }
    serde_json::from_str(&text).expect("one JSON document")
}

fn pause_ms(answer: &serde_json::Value) -> f64 {
    answer["report"]["pause_ms"].as_f64().expect("a switch reports its pause")
}

/// Clients in transactions of three statements, without a rest; others that come by now and then.
struct Traffic {
    stop: Arc<AtomicBool>,
    served: Vec<Arc<Mutex<Vec<Instant>>>>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn start(conninfo: &str, clients: u32, connections: u32) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let mut served = Vec::new();
        let mut threads = Vec::new();
        for client in 0..clients + connections {
            let (stop, conninfo) = (Arc::clone(&stop), conninfo.to_owned());
            let log = Arc::new(Mutex::new(Vec::new()));
            let busy = client < clients;
            if busy {
                served.push(Arc::clone(&log));
            }
            let work = move || transact_on(&conninfo, client.min(clients), busy, &stop, &log);
            let thread = thread::Builder::new().stack_size(256 << 10).spawn(work);
            threads.push(thread.expect("a thread can be started"));
        }
        let traffic = Traffic { stop, served, threads };
        traffic.until_served();
        traffic
    }

    /// Waits until every busy client has had two answers.
    fn until_served(&self) {
        let now = Instant::now();
        support::wait::until("all clients are served", Duration::from_secs(30), || {
            let twice = |log: &Arc<Mutex<Vec<Instant>>>| {
                log.lock().expect("no client panics").iter().rev().take_while(|at| **at > now).count() >= 2
            };
            self.served.iter().all(twice).then_some(())
        });
    }

    fn longest_gap(&self, from: Instant) -> Duration {
        let gap = |log: &Arc<Mutex<Vec<Instant>>>| {
            let log = log.lock().expect("no client panics");
            let pairs = log.windows(2).filter(|pair| pair[1] >= from);
            pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.served.iter().map(gap).max().unwrap_or_default()
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("no client panics")).collect()
    }
}

fn transact_on(
    conninfo: &str,
    account: u32,
    busy: bool,
    stop: &AtomicBool,
    served: &Mutex<Vec<Instant>>,
) -> Vec<String> {
    let mut errors = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) {
        let Some(client) = &mut connection else {
            match Client::connect(conninfo, NoTls) {
                Ok(client) => connection = Some(client),
                Err(error) => errors.push(error.to_string()),
            }
            continue;
        };
        let work = format!("insert into public.history (account, delta) values ({account}, 1)");
        let change = format!("update public.account set balance = balance + 1 where id = {account}");
        let statements: &[&str] = if busy { &["begin", &change, &work, "commit"] } else { &["select 1"] };
        if let Some(error) = statements.iter().find_map(|statement| client.batch_execute(statement).err()) {
            errors.push(format!("{error}: {:?}", error.as_db_error().map(|db| db.message().to_owned())));
            connection = None;
            continue;
        }
        served.lock().expect("no client panics").push(Instant::now());
        // As pgbench with a rate: on two cores, clients without a rest measure one another.
        thread::sleep(Duration::from_millis(if busy { 5 } else { 1000 }));
    }
    errors
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
