//! Time of `pgdetour replay` against a native subscription that takes in the same backlog, in turn, as ratios of medians: many small
//! transactions, one large UPDATE, inserts into a wide table, and these through a mapping that computes two columns. Then again
//! with 20 ms more of round trip between the servers: pgdetour runs beside the target, so that all of its statements take that long.
//!
//! Two floors stand beside them: the backlog decoded by the server and read into nothing, and its rows written by one statement
//! for each table from where they lie ready. Whoever takes a backlog in does both, on two cores at most at the same time.
//!
//! Sizes by environment variable (defaults in brackets): `PGDETOUR_BENCH_TRANSACTIONS` of pgbench (40000), `PGDETOUR_BENCH_UPDATED`
//! (200000) and `PGDETOUR_BENCH_INSERTED` (200000) rows, `PGDETOUR_BENCH_ROUNDS` (3), `PGDETOUR_BENCH_DELAY_MS` (20; 0: leave it out).
//! `PGDETOUR_BENCH_ONLY` names the backlogs to measure, such as `pgbench,update`. `PGDETOUR_BENCH_FOREIGN_KEYS=1` gives pgbench's
//! tables foreign keys, which replay looks at and a subscription does not.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../tests/support"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod measure;
    pub mod port;
    pub mod postgres;
    pub mod proxy;
    pub mod scratch;
    pub mod template;
    pub mod wait;
}

use support::measure::{median, number, on, run};
use support::postgres::{DATABASE, Postgres, Shutdown, Template};
use support::proxy::Proxy;
use support::scratch::Scratch;
use support::template;
use support::wait::until;

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(1800);

/// Enough memory for the data, and no checkpoint while the time is taken.
const SETTINGS: &[(&str, &str)] =
    &[("shared_buffers", "'512MB'"), ("max_wal_size", "'8GB'"), ("checkpoint_timeout", "'1h'")];

fn main() {
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 3);
    let delay = number("PGDETOUR_BENCH_DELAY_MS", 20);
    let only = std::env::var("PGDETOUR_BENCH_ONLY").unwrap_or_default();
    let wanted = |backlog: &Backlog| only.is_empty() || only.split(',').any(|name| name == backlog.name());
    let backlogs = [
        Backlog::Transactions(number("PGDETOUR_BENCH_TRANSACTIONS", 40_000)),
        Backlog::Update(number("PGDETOUR_BENCH_UPDATED", 200_000)),
        Backlog::Inserts(number("PGDETOUR_BENCH_INSERTED", 200_000)),
        Backlog::MappedInserts(number("PGDETOUR_BENCH_INSERTED", 200_000)),
    ];
    let backlogs: Vec<Backlog> = backlogs.into_iter().filter(wanted).collect();
    let scale = number("PGDETOUR_BENCH_UPDATED", 200_000).div_ceil(100_000).max(1);
    let bench = Bench::prepare(scale, delay);

    let mut times: Vec<Times> = backlogs.iter().map(|_| Times::default()).collect();
    let mut peak_memory = 0;
    for round in 0..rounds {
        for (backlog, times) in backlogs.iter().zip(&mut times) {
            for delayed in [false, true] {
                if delayed && delay == 0 {
                    continue;
                }
                bench.write(backlog);
                if !delayed {
                    times.decoding.push(bench.decode());
                }
                let writing = bench.write_by_hand(backlog);
                let (ours, native) = if round % 2 == 0 {
                    let ours = bench.replay(delayed);
                    (ours, bench.subscribe(delayed))
                } else {
                    let native = bench.subscribe(delayed);
                    (bench.replay(delayed), native)
                };
                bench.compare(backlog);
                peak_memory = peak_memory.max(ours.peak_memory);
                times.of(delayed).0.push(ours.seconds);
                times.of(delayed).1.push(native);
                if !delayed {
                    times.writing.push(writing);
                }
                eprintln!(
                    "round {round}, {} {}, {} ms: replay {:.2} s, subscription {native:.2} s, \
                     writing alone {writing:.2} s",
                    backlog.size(),
                    backlog.name(),
                    if delayed { delay } else { 0 },
                    ours.seconds
                );
            }
        }
    }

    let mut line = format!("{{\"rounds\": {rounds}, \"delay_ms\": {delay}");
    for (backlog, times) in backlogs.iter().zip(&mut times) {
        let name = backlog.name();
        let _ = write!(line, ", \"{name}\": {}", backlog.size());
        for (suffix, delayed) in [("", false), ("_delayed", true)] {
            let (ours, native) = times.of(delayed);
            if !ours.is_empty() {
                let (ours, native) = (median(ours), median(native));
                let _ = write!(
                    line,
                    ", \"{name}{suffix}_replay_seconds\": {ours:.2}, \
                     \"{name}{suffix}_subscription_seconds\": {native:.2}, \"{name}{suffix}_ratio\": {:.3}",
                    ours / native
                );
            }
        }
        let (decoding, writing) = (median(&times.decoding), median(&times.writing));
        let _ = write!(
            line,
            ", \"{name}_decoding_seconds\": {decoding:.2}, \"{name}_writing_seconds\": {writing:.2}"
        );
    }
    println!("{line}, \"peak_memory_mib\": {}}}", peak_memory >> 10);
}

/// What the application writes while nothing is applied.
enum Backlog {
    /// So many transactions of pgbench.
    Transactions(u32),
    /// One UPDATE of so many rows.
    Update(u32),
    /// So many rows of 40 columns, a thousand in each transaction.
    Inserts(u32),
    /// The same into a table two of whose columns are computed by a `[[map]]`.
    MappedInserts(u32),
}

impl Backlog {
    fn name(&self) -> &'static str {
        match self {
            Backlog::Transactions(_) => "pgbench",
            Backlog::Update(_) => "update",
            Backlog::Inserts(_) => "inserts",
            Backlog::MappedInserts(_) => "mapped_inserts",
        }
    }

    fn size(&self) -> u32 {
        let (Backlog::Transactions(size)
        | Backlog::Update(size)
        | Backlog::Inserts(size)
        | Backlog::MappedInserts(size)) = self;
        *size
    }

    /// What both must hold in the end, as a number.
    fn fingerprint(&self) -> &'static str {
        match self {
            Backlog::Transactions(_) | Backlog::Update(_) => {
                "select (select pg_catalog.sum(aid::numeric * abalance) from public.pgbench_accounts)
                      + (select pg_catalog.sum(tid::numeric * delta) from public.pgbench_history)"
            }
            Backlog::Inserts(_) => {
                "select pg_catalog.sum(id::numeric * n3) + pg_catalog.count(*) from public.wide"
            }
            Backlog::MappedInserts(_) => {
                "select pg_catalog.sum(id::numeric * n3) + pg_catalog.count(*) from public.wide_mapped"
            }
        }
    }
}

/// Seconds of ours and of the native subscription, without and with delay, and of the floors.
#[derive(Default)]
struct Times {
    plain: (Vec<f64>, Vec<f64>),
    delayed: (Vec<f64>, Vec<f64>),
    decoding: Vec<f64>,
    writing: Vec<f64>,
}

impl Times {
    fn of(&mut self, delayed: bool) -> &mut (Vec<f64>, Vec<f64>) {
        if delayed { &mut self.delayed } else { &mut self.plain }
    }
}

/// One run of ours.
struct Replayed {
    seconds: f64,
    /// In KiB.
    peak_memory: u64,
}

/// A detoured pair of servers, and beside the source a database `native` that is the same and subscribes to the target, and
/// one `floor` that is the same and written by hand.
struct Bench {
    source: Postgres,
    target: Postgres,
    to_source: Proxy,
    to_target: Proxy,
    configuration: PathBuf,
    _scratch: Scratch,
}

impl Bench {
    fn prepare(scale: u32, delay: u32) -> Bench {
        let scratch = Scratch::new();
        let start = |name, template: Template| {
            let mut server = Postgres::start_new(scratch.path(), name, &template);
            for (setting, value) in SETTINGS {
                server.exec(&format!("alter system set {setting} = {value}"));
            }
            server.restart(Shutdown::Fast);
            server
        };
        let source = start("source", template::of_source());
        let target = start("target", template::of_target());
        let delay = Duration::from_millis(u64::from(delay));
        let bench = Bench {
            to_source: delaying(source.port(), delay),
            to_target: delaying(target.port(), delay),
            configuration: scratch.path().join("pgdetour.toml"),
            source,
            target,
            _scratch: scratch,
        };
        let scale = scale.to_string();
        let foreign_keys = number("PGDETOUR_BENCH_FOREIGN_KEYS", 0) > 0;
        run(on(&bench.source, "pgbench")
            .args(["--initialize", "--quiet", "--scale", &scale])
            .args(foreign_keys.then_some("--foreign-keys")));
        bench.source.exec(&format!(
            "alter table public.pgbench_history add id bigint generated by default as identity primary key;
             {}; create table public.wide_mapped (like public.wide including all)",
            wide_table()
        ));
        for copy in ["native", "floor"] {
            run(on(&bench.source, "psql")
                .env("PGDATABASE", "postgres")
                .args(["-c", &format!("create database {copy} template {DATABASE}")]));
        }
        bench.configure("");
        run(&mut bench.pgdetour(&["mirror"], false));
        run(&mut bench.pgdetour(&["cutover"], false));
        bench
            .source
            .exec("alter table public.wide_mapped add label text not null, add total bigint not null");
        bench.configure(
            "[[map]]\nfrom = \"public.wide_mapped\"\nto = \"public.wide_mapped\"\n\
             columns = { label = \"upper(t1) || ' ' || t2\", total = \"n1::bigint + n2\" }\n",
        );
        let name = |table: &str| format!("public.{table}");
        let tables = ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers", "wide"];
        let tables: Vec<String> = tables.iter().chain(&["wide_mapped", "arrived"]).map(|t| name(t)).collect();
        let arrived = "create table public.arrived (id bigint primary key)";
        bench.target.exec(&format!("{arrived}; create publication native for table {}", tables.join(", ")));
        bench.target.exec("select pg_catalog.pg_create_logical_replication_slot('native', 'pgoutput')");
        run(on(&bench.source, "psql").env("PGDATABASE", "native").args(["-c", arrived]));
        run(on(&bench.source, "psql").env("PGDATABASE", "native").args([
            "-c",
            &format!(
                "create subscription native connection '{}' publication native
                 with (create_slot = false, enabled = false, copy_data = false, slot_name = 'native')",
                bench.target.conninfo("dba")
            ),
        ]));
        bench
    }

    /// No router: nobody but us is there.
    fn configure(&self, more: &str) {
        let text = format!(
            "[traffic]\nroles = [\"shop_app\"]\n[mirror]\nexclude = [\"public.arrived\"]\n[router]\nkind = \"none\"\n{more}"
        );
        std::fs::write(&self.configuration, text).expect("the scratch directory can be written");
    }

    fn pgdetour(&self, arguments: &[&str], delayed: bool) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
        let source = if delayed {
            self.source
                .conninfo("dba")
                .replace(&self.source.port().to_string(), &self.to_source.port().to_string())
        } else {
            self.source.conninfo("dba")
        };
        command
            .args(arguments)
            .args(["--yes", "--quiet", "--config"])
            .arg(&self.configuration)
            .env("PGDETOUR_SOURCE", source)
            .env("PGDETOUR_TARGET", self.target.conninfo("dba"))
            .stdin(Stdio::null());
        command
    }

    fn write(&self, backlog: &Backlog) {
        match backlog {
            Backlog::Transactions(count) => {
                let each = count.div_ceil(4).to_string();
                run(on(&self.target, "pgbench").args([
                    "--no-vacuum",
                    "--client=4",
                    "--protocol=prepared",
                    "--transactions",
                    &each,
                ]));
            }
            Backlog::Update(rows) => self.target.exec(&format!(
                "update public.pgbench_accounts set abalance = abalance + 1 where aid <= {rows}"
            )),
            Backlog::Inserts(rows) => self.target.exec(&insert_wide("public.wide", *rows)),
            Backlog::MappedInserts(rows) => self.target.exec(&insert_wide("public.wide_mapped", *rows)),
        }
        for server in [&self.target, &self.source] {
            server.exec("vacuum");
            server.exec("checkpoint");
        }
        for copy in ["native", "floor"] {
            run(on(&self.source, "psql").env("PGDATABASE", copy).args(["-c", "vacuum"]));
        }
    }

    /// The target's server decodes the backlog in memory, as it does for replay, and sends none of it.
    fn decode(&self) -> f64 {
        let mut client = self.target.client("dba");
        client
            .batch_execute("set logical_decoding_work_mem = '512MB'; set work_mem = '64MB'")
            .expect("it can be set");
        let begun = Instant::now();
        let counted = client.query_one(
            "select pg_catalog.count(*) from pg_catalog.pg_logical_slot_peek_binary_changes(
                 'native', null, null, 'proto_version', '1', 'binary', 'true', 'publication_names', 'native')",
            &[],
        );
        let changes: i64 = counted.expect("the slot can be read").get(0);
        assert!(changes > 0, "there is a backlog");
        begun.elapsed().as_secs_f64()
    }

    /// The rows as the backlog leaves them are put into the database `floor`, and then taken from there.
    fn write_by_hand(&self, backlog: &Backlog) -> f64 {
        let mut floor = self.on_source("floor");
        let from = |floor: &mut postgres::Client, table: &str| -> i64 {
            let last = format!("select coalesce(pg_catalog.max(id), 0) from public.{table}");
            floor.query_one(&last, &[]).expect("the table can be read").get(0)
        };
        let new = |table: &str, last: i64| {
            (table.to_owned(), format!("select * from public.{table} where id > {last}"))
        };
        let staged = match backlog {
            Backlog::Transactions(_) => {
                let last = from(&mut floor, "pgbench_history");
                let changed = |(table, key, _): &(&str, &str, &str)| {
                    let keys = format!("select {key} from public.pgbench_history where id > {last}");
                    ((*table).to_owned(), format!("select * from public.{table} where {key} in ({keys})"))
                };
                let mut staged: Vec<_> = PGBENCH.iter().map(changed).collect();
                staged.push(new("pgbench_history", last));
                staged
            }
            Backlog::Update(rows) => vec![(
                "pgbench_accounts".to_owned(),
                format!("select * from public.pgbench_accounts where aid <= {rows}"),
            )],
            Backlog::Inserts(_) => vec![new("wide", from(&mut floor, "wide"))],
            Backlog::MappedInserts(_) => vec![new("wide_mapped", from(&mut floor, "wide_mapped"))],
        };
        let mut script = "begin".to_owned();
        for (table, rows) in &staged {
            let made =
                format!("create temporary table staged_{table} as select * from public.{table} limit 0");
            floor.batch_execute(&made).expect("it can be staged");
            let mut target = self.target.client("dba");
            let mut out = target.copy_out(&format!("copy ({rows}) to stdout")).expect("rows can be read");
            let into = format!("copy staged_{table} from stdin");
            let mut staged = floor.copy_in(&into).expect("rows can be staged");
            std::io::copy(&mut out, &mut staged).expect("rows can be staged");
            staged.finish().expect("rows can be staged");
            floor.batch_execute(&format!("analyze staged_{table}")).expect("it can be analyzed");
            let _ = match PGBENCH.iter().find(|(name, ..)| name == table) {
                Some((_, key, value)) => write!(
                    script,
                    "; update public.{table} as t set {value} = s.{value} from staged_{table} as s where t.{key} = s.{key}"
                ),
                None => write!(script, "; insert into public.{table} select * from staged_{table}"),
            };
        }
        let begun = Instant::now();
        floor.batch_execute(&format!("{script}; commit")).expect("rows can be written");
        begun.elapsed().as_secs_f64()
    }

    fn replay(&self, delayed: bool) -> Replayed {
        let begun = Instant::now();
        let mut child = self
            .pgdetour(&["replay"], delayed)
            .stdout(Stdio::null())
            .spawn()
            .expect("pgdetour can be started");
        let mut peak_memory = 0;
        let status = until("replay ends", LIMIT, || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
            peak_memory = peak_memory.max(peak.unwrap_or(0));
            child.try_wait().expect("a child can be waited for")
        });
        assert!(status.success(), "replay failed");
        Replayed { seconds: begun.elapsed().as_secs_f64(), peak_memory }
    }

    /// From enabling the subscription until what was written last is there.
    fn subscribe(&self, delayed: bool) -> f64 {
        let mark: i64 =
            self.target.value("insert into public.arrived select count(*) from public.arrived returning id");
        let conninfo = self.target.conninfo("dba");
        let conninfo = if delayed {
            conninfo.replace(&self.target.port().to_string(), &self.to_target.port().to_string())
        } else {
            conninfo
        };
        let mut native = self.on_source("native");
        native
            .batch_execute(&format!("alter subscription native connection '{conninfo}'"))
            .expect("the subscription can be altered");
        let begun = Instant::now();
        native.batch_execute("alter subscription native enable").expect("the subscription can be enabled");
        until("the subscription has caught up", LIMIT, || {
            let row = native.query_opt("select from public.arrived where id = $1", &[&mark]);
            row.expect("the table can be read")
        });
        let seconds = begun.elapsed().as_secs_f64();
        native.batch_execute("alter subscription native disable").expect("the subscription can be disabled");
        until("the slot is free", LIMIT, || {
            let query = "select not active from pg_catalog.pg_replication_slots where slot_name = 'native'";
            self.target.value::<bool>(query).then_some(())
        });
        seconds
    }

    /// A session in one of the copies beside the source.
    fn on_source(&self, copy: &str) -> postgres::Client {
        let conninfo =
            self.source.conninfo("dba").replace(&format!("dbname={DATABASE}"), &format!("dbname={copy}"));
        postgres::Client::connect(&conninfo, postgres::NoTls).expect("the copy can be reached")
    }

    /// Neither may be fast by leaving something out.
    fn compare(&self, backlog: &Backlog) {
        let asked = format!("select coalesce(({})::text, '')", backlog.fingerprint());
        let here: String = self.target.value(&asked);
        assert_eq!(self.source.value::<String>(&asked), here, "what replay has written");
        for copy in ["native", "floor"] {
            let there: String =
                self.on_source(copy).query_one(&asked, &[]).expect("the copy can be read").get(0);
            assert_eq!(there, here, "what {copy} holds");
        }
    }
}

/// Tables of pgbench whose rows change: their keys, and what changes.
const PGBENCH: &[(&str, &str, &str)] = &[
    ("pgbench_accounts", "aid", "abalance"),
    ("pgbench_tellers", "tid", "tbalance"),
    ("pgbench_branches", "bid", "bbalance"),
];

/// A key and 39 more columns.
fn wide_table() -> String {
    let mut columns = "id bigint generated by default as identity primary key".to_owned();
    for (name, kind, count) in WIDE {
        for at in 1..=*count {
            let _ = write!(columns, ", {name}{at} {kind}");
        }
    }
    format!("create table public.wide ({columns})")
}

const WIDE: &[(&str, &str, u32)] = &[
    ("n", "int", 10),
    ("t", "text", 12),
    ("d", "timestamptz", 5),
    ("m", "numeric(12,2)", 5),
    ("f", "float8", 4),
    ("b", "boolean", 3),
];

fn insert_wide(table: &str, rows: u32) -> String {
    let mut names = Vec::new();
    let mut values = Vec::new();
    for (name, _, count) in WIDE {
        for at in 1..=*count {
            names.push(format!("{name}{at}"));
            values.push(match *name {
                "n" => format!("(g * {at}) % 1000000"),
                "t" => format!("'text {at} of row ' || g"),
                "d" => format!("timestamptz '2024-01-01 00:00:00.123456+00' + g * interval '{at} second'"),
                "m" => format!("(g % 100000) * {at} / 100.0"),
                "f" => format!("g / {at}.7"),
                _ => format!("g % {} = 0", at + 1),
            });
        }
    }
    format!(
        "do $$ begin
             for part in 0 .. {rows} / 1000 - 1 loop
                 insert into {table} ({}) select {} from generate_series(part * 1000 + 1, part * 1000 + 1000) as g;
                 commit;
             end loop;
         end $$",
        names.join(", "),
        values.join(", ")
    )
}

/// A proxy before a server that makes each round trip `delay` longer.
fn delaying(port: u16, delay: Duration) -> Proxy {
    let proxy = Proxy::start(port);
    proxy.delay(delay / 2);
    proxy
}
