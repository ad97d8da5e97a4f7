//! Random schemas, mappings, transactions and accidents: whatever happens, the source ends as the mapping's image of the
//! target, by a check that shares no code with the binary.
//!
//! A seed makes the same schemas, mapping, maintenance and decisions each time; the moments at which they meet the servers
//! are the machine's. `PGDETOUR_TEST_SEED=7` runs one seed alone.

mod dice;
mod shape;
mod traffic;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::support::detour::Detour;
use crate::support::extent;
use crate::support::postgres::{Postgres, Shutdown};
use dice::Dice;
use shape::Shape;
use traffic::Traffic;

/// How many seeds run at once.
const LANES: usize = 4;
/// How many sessions of the application write at once.
const WRITERS: usize = 8;
/// How long a command that is not killed may take to come to its end, with all that happens to the servers.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_source_ends_as_the_image_of_the_target_whatever_happens() {
    let seeds: Vec<u64> = match std::env::var("PGDETOUR_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("PGDETOUR_TEST_SEED is a number")],
        Err(_) => (1..=extent::pick(10, 200)).collect(),
    };
    let left = Mutex::new(seeds.into_iter());
    let failed = AtomicBool::new(false);
    let next = || {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.load(Ordering::Relaxed) { None } else { left.next() }
    };
    // Most of a seed is waiting: for servers that come up again, for a moment to break something.
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    // What it leaves when it fails is named for its thread.
                    let thread = std::thread::Builder::new().name(format!("random.seed{seed}"));
                    let run = thread.spawn_scoped(scope, move || run(seed)).expect("a thread can be started");
                    if run.join().is_err() {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("seed {seed} failed; run it again with PGDETOUR_TEST_SEED={seed}");
                    }
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "a seed failed");
}

fn run(seed: u64) {
    let began = Instant::now();
    let mut dice = Dice::new(seed);
    let shape = Shape::random(&mut dice);
    // Shown only when the test fails.
    println!("seed {seed}\n{shape}");
    let tell = |what: &str| println!("seed {seed}: {what} after {:.1} s", began.elapsed().as_secs_f64());
    let mut detour = Detour::new().on_source(&shape.source).configured("[replay]\non_conflict = \"stop\"");
    let traffic = Traffic::start(&detour.application_conninfo(), &shape, &mut dice, WRITERS);
    tell("begun");
    finish(&mut detour, &mut dice, "mirror", &[]);
    tell("mirrored");
    finish(&mut detour, &mut dice, "cutover", &["--max-pause", "30s"]);
    tell("detoured");
    detour.source.exec(&shape.maintenance);
    // What maintenance has made anew has no grants of its own.
    detour.source.exec("grant select, insert, update, delete on all tables in schema public to shop_app");
    detour = detour.configured(&shape.map);
    for _ in 0..dice.between(2, extent::pick(3, 5)) {
        traffic.wait_for_more();
        go_through_an_accident(&mut detour, &mut dice);
        tell("one more accident");
    }
    traffic.wait_for_more();
    let written = traffic.stop();
    assert!(written > 20, "only {written} transactions were written");
    finish(&mut detour, &mut dice, "replay", &[]);
    tell("replayed");
    let differences = differences(&shape, &detour);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    detour.run("verify").exits(0).reports("/equal", true).run("cutback").exits(0);
    tell("returned");
}

/// Runs a command, sometimes killed at some moment, until it has come to its end.
fn finish(detour: &mut Detour, dice: &mut Dice, command: &str, arguments: &[&str]) {
    if dice.one_in(2) {
        let mut child = start(detour, command, arguments);
        std::thread::sleep(Duration::from_millis(dice.between(0, 1500)));
        kill(&mut child);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all: Vec<&str> = arguments.iter().copied().chain(["--yes"]).collect();
        let answer = detour.ask(command, &all);
        match answer.code() {
            Some(0) => return,
            // A server that was busy coming up, or a lock that a killed run has not let go of.
            Some(4..=7) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            _ => panic!("{}", answer.describe()),
        }
    }
}

/// A replay runs while something happens to it or to a server; it may fail, but not for the data.
fn go_through_an_accident(detour: &mut Detour, dice: &mut Dice) {
    let follow: &[&str] = if dice.one_in(2) { &["--follow"] } else { &[] };
    let mut child = start(detour, "replay", follow);
    std::thread::sleep(Duration::from_millis(dice.between(0, 1200)));
    let shutdown = if dice.one_in(2) { Shutdown::Fast } else { Shutdown::Immediate };
    match dice.between(0, 3) {
        0 => kill(&mut child),
        1 => restart(&mut detour.source, shutdown),
        2 => restart(&mut detour.target, shutdown),
        _ => {
            restart(&mut detour.target, shutdown);
            kill(&mut child);
            restart(&mut detour.source, shutdown);
        }
    }
    std::thread::sleep(Duration::from_millis(dice.between(0, 300)));
    if !follow.is_empty() {
        kill(&mut child);
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    // 4: the killed run's session may still hold the lock. 5, 6, 7: a server was not there.
    let is_fine = matches!(output.status.code(), None | Some(0 | 4..=7));
    assert!(
        is_fine,
        "replay ended with {}:\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn restart(server: &mut Postgres, shutdown: Shutdown) {
    server.restart(shutdown);
}

fn start(detour: &Detour, command: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pgdetour"))
        .args([command, "--json", "--yes", "--config"])
        .arg(detour.configuration())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started")
}

/// Kills a run as `kill -9` does, unless it has ended.
fn kill(child: &mut Child) {
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
}

/// What the source has and the image of the target does not, or the other way round.
fn differences(shape: &Shape, detour: &Detour) -> Vec<String> {
    let rows = |server: &Postgres, query: &str| -> Vec<String> {
        let mut client = server.client("dba");
        client
            .batch_execute("set timezone = 'UTC'; set extra_float_digits = 3")
            .expect("settings can be made");
        let rows = client.query(query, &[]).unwrap_or_else(|error| panic!("{error:?}\n{query}"));
        let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        rows.sort_unstable();
        rows
    };
    let mut differences = Vec::new();
    for check in &shape.checks {
        let (mut found, mut wanted) =
            (rows(&detour.source, &check.found), rows(&detour.target, &check.wanted));
        println!("{}: {} rows", check.table, wanted.len());
        let both = found.clone();
        found.retain(|row| wanted.binary_search(row).is_err());
        let missing: Vec<&String> = wanted.iter().filter(|row| both.binary_search(row).is_err()).collect();
        if found.is_empty() && missing.is_empty() && both.len() == wanted.len() {
            continue;
        }
        differences.push(format!(
            "{}: {} rows on the source, {} expected; too many {:?}; missing {:?}",
            check.table,
            both.len(),
            wanted.len(),
            found.iter().take(3).collect::<Vec<_>>(),
            missing.iter().take(3).collect::<Vec<_>>()
        ));
        wanted.clear();
    }
    differences
}
