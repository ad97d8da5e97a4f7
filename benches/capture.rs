//! What recording changes costs the application: pgbench on the target with nothing recorded, with a slot, and with
//! triggers, in turn, as ratios of medians; and the same for one bulk insert.
//!
//! `PGDETOUR_BENCH_SECONDS` is how long each pgbench runs (10 when unset), `PGDETOUR_BENCH_ROUNDS` how often (5),
//! `PGDETOUR_BENCH_ROWS` how many rows the bulk insert has (200,000).

use std::process::Command;
use std::time::Instant;

#[path = "../tests/support"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod measure;
    pub mod port;
    pub mod postgres;
    pub mod scratch;
    pub mod template;
    pub mod wait;
}

use support::measure::{median, number, on, run};
use support::postgres::Postgres;
use support::scratch::Scratch;
use support::template;

/// Nothing recorded, then each method.
const METHODS: [Option<&str>; 3] = [None, Some("wal"), Some("trigger")];

fn main() {
    let seconds = number("PGDETOUR_BENCH_SECONDS", 10);
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 5) as usize;
    let rows = number("PGDETOUR_BENCH_ROWS", 200_000);
    let scratch = Scratch::new();
    let source = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let target = Postgres::start_new(scratch.path(), "target", &template::of_target());
    run(on(&source, "pgbench").args(["--initialize", "--quiet", "--scale", "10"]));
    // A key, without which its updates could not be recorded; nothing else of pgbench's lacks one that is updated.
    source.exec("alter table pgbench_history add column id bigint generated always as identity primary key");
    source.exec("create table bulk (id bigint generated always as identity primary key, v text)");
    let configuration = |method: &str| {
        let file = scratch.path().join(format!("{method}.toml"));
        let text = format!(
            "[traffic]\nroles = [\"shop_app\"]\n[router]\nkind = \"none\"\n[capture]\nmethod = \"{method}\"\n"
        );
        std::fs::write(&file, text).expect("the scratch directory can be written");
        file.to_string_lossy().into_owned()
    };
    let files = [configuration("wal"), configuration("trigger")];
    let pgdetour = |file: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
        command
            .env("PGDETOUR_SOURCE", source.conninfo("dba"))
            .env("PGDETOUR_TARGET", target.conninfo("dba"))
            .args(arguments)
            .args(["--config", file, "--quiet", "--yes"]);
        run(&mut command);
    };
    pgdetour(&files[0], &["mirror"]);
    target.exec("alter subscription pgdetour_mirror disable");

    let mut tps = [const { Vec::new() }; 3];
    let mut bulk = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (at, method) in METHODS.into_iter().enumerate() {
            match method {
                // Armed with one method, the other is gone; neither is what is left when it is taken away by hand.
                Some("wal") => pgdetour(&files[0], &["capture"]),
                Some(_) => pgdetour(&files[1], &["capture"]),
                None => forget_capture(&target),
            }
            tps[at].push(pgbench(&target, seconds));
            bulk[at].push(insert(&target, rows));
        }
    }
    let tps = tps.map(|values| median(&values));
    let bulk = bulk.map(|values| median(&values));
    println!(
        "{{\"rounds\": {rounds}, \"tps\": {:.0}, \"tps_wal_ratio\": {:.3}, \"tps_trigger_ratio\": {:.3}, \
         \"bulk_seconds\": {:.3}, \"bulk_wal_ratio\": {:.2}, \"bulk_trigger_ratio\": {:.2}}}",
        tps[0],
        tps[1] / tps[0],
        tps[2] / tps[0],
        bulk[0],
        bulk[1] / bulk[0],
        bulk[2] / bulk[0]
    );
}

/// Takes away what the method before has armed.
fn forget_capture(target: &Postgres) {
    target.exec(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'pgdetour_capture';
         drop publication if exists pgdetour_capture;
         drop event trigger if exists pgdetour_capture;
         drop function if exists pgdetour.record_change() cascade;
         drop function if exists pgdetour.record_truncate() cascade;
         drop table if exists pgdetour.change, pgdetour.change_order, pgdetour.change_state, pgdetour.description",
    );
}

/// Transactions a second of four clients.
fn pgbench(target: &Postgres, seconds: u32) -> f64 {
    let output = on(target, "pgbench")
        .args(["--client", "4", "--jobs", "2", "--no-vacuum", "--time", &seconds.to_string()])
        .output()
        .expect("pgbench runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Seconds that so many rows take.
fn insert(target: &Postgres, rows: u32) -> f64 {
    let begun = Instant::now();
    target.exec(&format!("insert into bulk (v) select md5(n::text) from generate_series(1, {rows}) as n"));
    let took = begun.elapsed().as_secs_f64();
    target.exec("delete from bulk; checkpoint");
    took
}
