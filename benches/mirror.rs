//! Time of `pgdetour mirror` against `pg_dump | pg_restore -j2` of the same database, in turn, as ratios of medians.
//!
//! `PGDETOUR_BENCH_SCALE` is pgbench's scale (20 when unset: 300 MB), `PGDETOUR_BENCH_ROUNDS` how often each runs (5).

use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[path = "../tests/support"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod port;
    pub mod postgres;
    pub mod scratch;
    pub mod template;
    pub mod wait;
}

use support::postgres::{DATABASE, DBA_PASSWORD, Postgres};
use support::scratch::Scratch;
use support::template;

fn main() {
    let scale = number("PGDETOUR_BENCH_SCALE", 20);
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 5) as usize;
    let scratch = Scratch::new();
    let source = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let target = Postgres::start_new(scratch.path(), "target", &template::of_target());
    let scale_text = scale.to_string();
    run(on(&source, "pgbench").args(["--initialize", "--quiet", "--scale", &scale_text]));

    let (mut ours, mut dumped) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(seconds(|| mirror(&source, &target)));
        run(pgdetour(&source, &target).args(["clean", "--yes", "--quiet"]));
        dumped.push(seconds(|| dump_and_restore(&source, &target, scratch.path())));
        target.exec("drop schema public cascade; create schema public");
    }
    let (ours, dumped) = (median(ours), median(dumped));
    println!(
        "{{\"scale\": {scale}, \"rounds\": {rounds}, \"mirror_seconds\": {ours:.2}, \
         \"pg_dump_pg_restore_j2_seconds\": {dumped:.2}, \"ratio\": {:.2}}}",
        ours / dumped
    );
}

fn mirror(source: &Postgres, target: &Postgres) {
    run(pgdetour(source, target).args(["mirror", "--jobs", "2", "--quiet"]));
}

fn pgdetour(source: &Postgres, target: &Postgres) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
    command.env("PGDETOUR_SOURCE", source.conninfo("dba")).env("PGDETOUR_TARGET", target.conninfo("dba"));
    command
}

fn dump_and_restore(source: &Postgres, target: &Postgres, scratch: &Path) {
    let dump = scratch.join("dump");
    let dump = dump.to_string_lossy();
    run(on(source, "pg_dump").args(["--format=directory", "--jobs=2", "--compress=0", "--file", &dump]));
    run(on(target, "pg_restore").args(["--jobs=2", "--dbname", DATABASE, &dump]));
    std::fs::remove_dir_all(&*dump).expect("the dump can be removed");
}

/// A client program of the server's installation, connected as its administrator.
fn on(server: &Postgres, program: &str) -> Command {
    let mut command = Command::new(server.program(program));
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", "dba")
        .env("PGDATABASE", DATABASE)
        .env("PGPASSWORD", DBA_PASSWORD);
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
