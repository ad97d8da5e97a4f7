//! Time of `pgdetour mirror` against other ways to copy the same database, in turn, as ratios of medians: `pg_dump | pg_restore
//! -j2`, a subscription with `copy_data`, `pgcopydb clone` where it is installed, and by hand (COPY between two psql, large
//! tables in halves, then the keys in parallel), which is the floor. One JSON line for each data set.
//!
//! `PGDETOUR_BENCH_SCALE` is pgbench's scale (10 when unset; 100 is 1.5 GB), `PGDETOUR_BENCH_TABLES` how many small tables
//! there are (500), `PGDETOUR_BENCH_ROWS` how many rows the wide one has (40,000), `PGDETOUR_BENCH_ROUNDS` how often each way
//! is timed (3), `PGDETOUR_BENCH_DATA` which of `pgbench`, `wide`, `small` and `load` are measured (all); `load` is what
//! pgbench's own rate on the source loses to a copy, to one under `--max-rate` of `PGDETOUR_BENCH_RATE` (20MB/s), and to a flow.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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
use support::postgres::{DATABASE, DBA_PASSWORD, Postgres};
use support::scratch::Scratch;
use support::template;
use support::wait::until;

const LIMIT: Duration = Duration::from_secs(3600);

/// Both servers and a place for files.
struct Pair {
    source: Postgres,
    target: Postgres,
    scratch: Scratch,
}

/// One way to copy the source to the empty target.
type Way = fn(&Pair) -> f64;

fn main() {
    let chosen = std::env::var("PGDETOUR_BENCH_DATA").unwrap_or_else(|_| "pgbench wide small load".into());
    for data in chosen.split_whitespace() {
        let pair = Pair::start();
        match data {
            "pgbench" => {
                fill_pgbench(&pair);
                compare(&pair, data, &[&DUMPED, &SUBSCRIBED, &PGCOPYDB, &BY_HAND]);
            }
            "wide" => {
                let rows = number("PGDETOUR_BENCH_ROWS", 40_000).to_string();
                pair.source.exec(&WIDE.replace(":rows", &rows));
                compare(&pair, data, &[&DUMPED, &SUBSCRIBED, &PGCOPYDB, &BY_HAND]);
            }
            "small" => {
                fill_small(&pair);
                compare(&pair, data, &[&DUMPED, &SUBSCRIBED, &PGCOPYDB]);
            }
            "load" => load(&pair),
            other => panic!("there is no data set \"{other}\""),
        }
    }
}

/// A table of text, jsonb and a second index, in rows of about 2 kB.
const WIDE: &str = "
create table public.wide (
    id bigint primary key, name text not null, body text not null, document jsonb not null, made timestamptz not null
);
insert into public.wide
select
    n, 'name ' || n, (select string_agg(md5(n::text || m), ' ') from generate_series(1, 40) as m),
    jsonb_build_object('n', n, 'tags', array['a', 'b', md5(n::text)], 'more', repeat('x', 200)),
    now() + n * interval '1 second'
from generate_series(1, :rows) as n;
create index on public.wide (name);
";

fn fill_pgbench(pair: &Pair) {
    let scale = number("PGDETOUR_BENCH_SCALE", 10).to_string();
    run(on(&pair.source, "pgbench").args(["--initialize", "--quiet", "--scale", &scale]));
    // It has no key, and pgbench is to run beside the copy.
    pair.source.exec("alter table pgbench_history replica identity full");
}

fn fill_small(pair: &Pair) {
    let tables = number("PGDETOUR_BENCH_TABLES", 500);
    for first in (1..=tables).step_by(100) {
        pair.source.exec(&format!(
            "do $$ begin for n in {first}..{} loop
                execute format('create table public.small_%s (id int primary key, note text not null, made date)', n);
                execute format('insert into public.small_%s select m, md5(m::text), current_date from generate_series(1, 100) as m', n);
                execute format('create index on public.small_%s (note)', n);
            end loop; end $$",
            (first + 99).min(tables)
        ));
    }
}

struct Peer {
    name: &'static str,
    way: Way,
}

const DUMPED: Peer = Peer { name: "pg_dump_pg_restore_j2", way: dump_and_restore };
const SUBSCRIBED: Peer = Peer { name: "subscription", way: subscribe };
const PGCOPYDB: Peer = Peer { name: "pgcopydb", way: pgcopydb };
const BY_HAND: Peer = Peer { name: "by_hand", way: by_hand };

/// Times each way, several rounds, each beginning with another one, and prints medians and ratios. In a fixed order the
/// first would always pay for making WAL files that those after it find made.
fn compare(pair: &Pair, data: &str, peers: &[&Peer]) {
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 3) as usize;
    let is_there = |peer: &&&Peer| peer.name != "pgcopydb" || find("pgcopydb");
    let peers: Vec<&&Peer> = peers.iter().filter(is_there).collect();
    let (mut ours, mut memory) = (Vec::new(), 0);
    let mut others = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        for turn in 0..=peers.len() {
            pair.settle();
            match (round + turn) % (peers.len() + 1) {
                0 => {
                    let begun = Instant::now();
                    memory = memory.max(mirror(pair));
                    ours.push(begun.elapsed().as_secs_f64());
                    run(pair.pgdetour().args(["clean", "--yes", "--quiet"]));
                }
                peer => others[peer - 1].push((peers[peer - 1].way)(pair)),
            }
            pair.empty();
        }
    }
    let ours_median = median(&ours);
    let mut line = format!(
        "{{\"data\": \"{data}\", \"rounds\": {rounds}, \"mirror_seconds\": {ours_median:.2}, \"mirror_rounds\": {ours:.2?}, \
         \"client_mib\": {}",
        memory >> 10
    );
    for (peer, seconds) in peers.iter().zip(others) {
        let theirs = median(&seconds);
        line = format!(
            "{line}, \"{name}_seconds\": {theirs:.2}, \"{name}_rounds\": {seconds:.2?}, \"ratio_to_{name}\": {:.2}",
            ours_median / theirs,
            name = peer.name,
        );
    }
    println!("{line}}}");
}

impl Pair {
    fn start() -> Pair {
        let scratch = Scratch::new();
        let start = |name, template: &support::postgres::Template| {
            let mut server = Postgres::start_new(scratch.path(), name, template);
            // The way in which everybody else drops or restores thousands of tables takes a lock for each.
            server.set("max_locks_per_transaction", "1024");
            server
        };
        let source = start("source", &template::of_source());
        let target = start("target", &template::of_target());
        Pair { source, target, scratch }
    }

    fn pgdetour(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
        command
            .env("PGDETOUR_SOURCE", self.source.conninfo("dba"))
            .env("PGDETOUR_TARGET", self.target.conninfo("dba"));
        command
    }

    /// Lets what was written before reach the disk, so that nobody is timed with it.
    fn settle(&self) {
        self.source.exec("checkpoint");
        self.target.exec("checkpoint");
        run(&mut Command::new("sync"));
    }

    /// Makes the target what it was.
    fn empty(&self) {
        self.target.exec("drop schema if exists public cascade; create schema public; checkpoint");
    }
}

/// Copies with pgdetour; the most memory that it had resident, in kB.
fn mirror(pair: &Pair) -> u64 {
    let mut child =
        pair.pgdetour().args(["mirror", "--jobs", "2", "--quiet"]).spawn().expect("it can be started");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("it can be waited for").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = kilobytes.map_or(peak, |kilobytes: u64| peak.max(kilobytes));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().expect("it can be waited for").success());
    peak
}

fn dump_and_restore(pair: &Pair) -> f64 {
    let dump = pair.scratch.path().join("dump");
    let dump = dump.to_string_lossy();
    seconds(|| {
        run(on(&pair.source, "pg_dump").args(["-Fd", "--jobs=2", "--compress=0", "--file", &dump]));
        run(on(&pair.target, "pg_restore").args([
            "--jobs=2",
            "--clean",
            "--if-exists",
            "--dbname",
            DATABASE,
            &dump,
        ]));
        std::fs::remove_dir_all(&*dump).expect("the dump can be removed");
    })
}

/// PostgreSQL's own way: the schema, then a subscription that copies the data.
fn subscribe(pair: &Pair) -> f64 {
    let took = seconds(|| {
        restore_schema(pair, "pre-data", 1);
        restore_schema(pair, "post-data", 1);
        pair.source.exec("create publication bench for all tables");
        let conninfo = pair.source.conninfo("dba").replace('\'', "''");
        pair.target.exec(&format!("create subscription bench connection '{conninfo}' publication bench"));
        let left = "select count(*) from pg_subscription_rel where srsubstate <> 'r'";
        until("the subscription has copied", LIMIT, || (pair.target.value::<i64>(left) == 0).then_some(()));
        pair.target.exec("analyze");
    });
    pair.target.exec("drop subscription bench");
    pair.source.exec("drop publication bench");
    took
}

fn pgcopydb(pair: &Pair) -> f64 {
    let work = pair.scratch.path().join("pgcopydb");
    let _ = std::fs::remove_dir_all(&work);
    let work = work.to_string_lossy();
    let uri =
        |server: &Postgres| format!("postgres://dba:{DBA_PASSWORD}@127.0.0.1:{}/{DATABASE}", server.port());
    let (source, target) = (uri(&pair.source), uri(&pair.target));
    let split = "64MB";
    seconds(|| {
        run(Command::new("pgcopydb")
            .args(["clone", "--table-jobs", "2", "--index-jobs", "2", "--split-tables-larger-than", split])
            .args([
                "--drop-if-exists",
                "--restart",
                "--dir",
                &work,
                "--source",
                &source,
                "--target",
                &target,
            ]));
    })
}

/// The floor: what is left when nothing has to be decided, noted or resumed.
fn by_hand(pair: &Pair) -> f64 {
    let mut client = pair.source.client("dba");
    let tables = "select oid::regclass::text, pg_relation_size(oid) / 8192 from pg_class
                  where relkind = 'r' and relnamespace = 'public'::regnamespace order by 2 desc";
    let tables: Vec<(String, i64)> = client
        .query(tables, &[])
        .expect("the tables can be listed")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    seconds(|| {
        restore_schema(pair, "pre-data", 1);
        for (table, pages) in &tables {
            let middle = pages / 2;
            let halves = if *pages > 1000 {
                vec![format!("ctid < '({middle},0)'"), format!("ctid >= '({middle},0)'")]
            } else {
                vec!["true".to_owned()]
            };
            let pipes: Vec<(Child, Child)> = halves.iter().map(|half| pipe(pair, table, half)).collect();
            for (out, into) in pipes {
                end(out);
                end(into);
            }
        }
        restore_schema(pair, "post-data", 2);
        run(on(&pair.target, "psql").args(["-qc", "analyze"]));
    })
}

/// Two psql, the rows from one to the other.
fn pipe(pair: &Pair, table: &str, condition: &str) -> (Child, Child) {
    let out = format!("copy (select * from {table} where {condition}) to stdout (format binary)");
    let mut out =
        on(&pair.source, "psql").args(["-qc", &out]).stdout(Stdio::piped()).spawn().expect("psql starts");
    let rows = out.stdout.take().expect("a pipe");
    let into = format!("copy {table} from stdin (format binary)");
    let into = on(&pair.target, "psql").args(["-qc", &into]).stdin(rows).spawn().expect("psql starts");
    (out, into)
}

fn end(mut child: Child) {
    assert!(child.wait().expect("psql ends").success());
}

fn restore_schema(pair: &Pair, section: &str, jobs: u32) {
    let file = pair.scratch.path().join("schema.dump");
    let file = file.to_string_lossy();
    let section = format!("--section={section}");
    run(on(&pair.source, "pg_dump").args([
        "-Fc",
        "--schema-only",
        "--schema=public",
        &section,
        "--file",
        &file,
    ]));
    let mut restore = on(&pair.target, "pg_restore");
    restore.env("PGOPTIONS", "-c maintenance_work_mem=512MB -c max_parallel_maintenance_workers=2");
    restore.args(["--jobs", &jobs.to_string(), &section, "--dbname", DATABASE]);
    if section.ends_with("pre-data") {
        restore.args(["--clean", "--if-exists"]);
    }
    run(restore.arg(&*file));
}

/// What pgbench's rate on the source is beside a copy, beside one that is held to a rate, and beside a flow, against nothing.
/// All are measured for the same time, from the moment at which the copy begins: a copy that is over sooner leaves the rest
/// of it to the flow.
fn load(pair: &Pair) {
    fill_pgbench(pair);
    let rate = std::env::var("PGDETOUR_BENCH_RATE").unwrap_or_else(|_| "20MB/s".into());
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 3);
    let mut alone = Vec::new();
    let mut beside = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        pair.settle();
        alone.push(transactions_per_second(pair));
        for (at, limit) in [None, Some(&rate)].into_iter().enumerate() {
            let mut copy = pair.pgdetour();
            copy.args(["mirror", "--jobs", "2", "--quiet"]);
            if let Some(rate) = limit {
                copy.args(["--max-rate", rate]);
            }
            let mut copy = copy.spawn().expect("it starts");
            beside[at].push(transactions_per_second(pair));
            assert!(copy.wait().expect("it ends").success());
            if limit.is_none() {
                beside[2].push(transactions_per_second(pair));
            }
            run(pair.pgdetour().args(["clean", "--yes", "--quiet"]));
            pair.empty();
        }
    }
    let alone = median(&alone);
    let [copying, limited, following] = beside.map(|tps| median(&tps) / alone);
    println!(
        "{{\"data\": \"load\", \"rounds\": {rounds}, \"tps_alone\": {alone:.0}, \"ratio_while_copying\": {copying:.2}, \
         \"max_rate\": \"{rate}\", \"ratio_while_copying_at_it\": {limited:.2}, \"ratio_while_following\": {following:.2}}}"
    );
}

fn transactions_per_second(pair: &Pair) -> f64 {
    let output =
        on(&pair.source, "pgbench").args(["-c", "2", "-T", "8", "-n"]).output().expect("pgbench starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("tps = ")).expect("pgbench tells its rate");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn find(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| Path::new(&folder).join(program).is_file())
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}
