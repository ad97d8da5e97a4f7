//! What restrictions cost: TPS of pgbench on tables that are not restricted, as an administrator and as the limited
//! role, with restricted tables beside them against none; a refused statement; and `restrict --observe` on the table
//! that is written: one connection writes in turn to it and to a twin that is not observed. As ratios of medians.
//!
//! `PGDETOUR_BENCH_ROUNDS` is how often each is measured (15 when unset), `PGDETOUR_BENCH_SECONDS` how long (2). Commits
//! wait for the disk, as they do in production.

use std::path::PathBuf;
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

/// How many tables are restricted beside those that are written.
const RESTRICTED_TABLES: u32 = 200;
/// Statements for the cost of one.
const STATEMENTS: u32 = 2000;
/// Rows of the observed table and of its twin.
const ROWS: usize = 100_000;

fn main() {
    let rounds = number("PGDETOUR_BENCH_ROUNDS", 15);
    let seconds = number("PGDETOUR_BENCH_SECONDS", 2);
    let scratch = Scratch::new();
    let mut source = Postgres::start_new(scratch.path(), "source", &template::of_source());
    let mut target = Postgres::start_new(scratch.path(), "target", &template::of_target());
    for server in [&mut source, &mut target] {
        server.set("fsync", "on");
        run(on(server, "pgbench").args(["--initialize", "--quiet", "--scale", "5"]));
        server.exec(&format!(
            "create table pgbench_twin (like pgbench_accounts including all);
             insert into pgbench_twin select * from pgbench_accounts;
             grant all on all tables in schema public to shop_app;
             do $$ begin for n in 1..{RESTRICTED_TABLES} loop
                 execute format('create table frozen_%s (id int primary key, n int)', n);
                 execute format('insert into frozen_%s values (1, 1)', n);
                 execute format('grant all on frozen_%s to shop_app, shop_limited', n);
             end loop; end $$"
        ));
    }
    let ours = |name: &str, rule: &str| {
        let path = scratch.path().join(name);
        let text = format!("[traffic]\nroles = [\"shop_app\"]\n[[restrict]]\ntables = [\"{rule}\"]\n");
        std::fs::write(&path, text).expect("the scratch directory can be written");
        path
    };
    let (frozen, accounts) = (ours("frozen.toml", "frozen_*"), ours("accounts.toml", "pgbench_accounts"));

    let mut tps = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    let (mut refused, mut passed) = (Vec::new(), Vec::new());
    let mut observation = Observation::default();
    for _ in 0..rounds {
        bench(&target, "dba", 1);
        for (at, role) in ["dba", "shop_app"].into_iter().enumerate() {
            tps[at][0].push(bench(&target, role, seconds));
        }
        run(&mut pgdetour(&source, &target, &frozen, &[]));
        // Whatever PostgreSQL does behind so many new triggers is over before the time is taken.
        target.exec("checkpoint");
        bench(&target, "dba", 1);
        for (at, role) in ["dba", "shop_app"].into_iter().enumerate() {
            tps[at][1].push(bench(&target, role, seconds));
        }
        passed.push(microseconds(&target, "shop_limited", true));
        refused.push(microseconds(&target, "shop_app", false));
        run(&mut pgdetour(&source, &target, &frozen, &["--lift"]));

        run(&mut pgdetour(&source, &target, &accounts, &["--observe"]));
        observation.measure(&source);
        run(&mut pgdetour(&source, &target, &accounts, &["--observe", "--lift"]));
    }
    // Each round's runs stand beside each other in time, so their ratio says more than that of two medians.
    let ratio = |[without, beside]: &[Vec<f64>; 2]| {
        median(&without.iter().zip(beside).map(|(without, beside)| beside / without).collect::<Vec<_>>())
    };
    let [admin, application] = &tps;
    let Observation { transactions: [plain, observed], updates: [plain_update, observed_update] } =
        &observation;
    println!(
        "{{\"rounds\": {rounds}, \"restricted_tables\": {RESTRICTED_TABLES}, \"admin_tps\": {:.0}, \
         \"admin_ratio\": {:.3}, \"application_tps\": {:.0}, \"application_ratio\": {:.3}, \
         \"passed_statement_us\": {:.0}, \"refused_statement_us\": {:.0}, \"unobserved_transaction_us\": {:.0}, \
         \"observed_ratio\": {:.3}, \"unobserved_update_us\": {:.0}, \"observed_update_us\": {:.0}}}",
        median(&admin[0]),
        ratio(admin),
        median(&application[0]),
        ratio(application),
        median(&passed),
        median(&refused),
        median(plain),
        median(observed) / median(plain),
        median(plain_update),
        median(observed_update)
    );
}

/// Microseconds that writes take without and with the counting.
#[derive(Default)]
struct Observation {
    /// pgbench's "simple update": an update, a select and an insert, committed to disk.
    transactions: [Vec<f64>; 2],
    /// One update that is a transaction of its own.
    updates: [Vec<f64>; 2],
}

impl Observation {
    /// In turn, so that whatever else the machine does slows both.
    fn measure(&mut self, server: &Postgres) {
        let mut client = server.client("shop_app");
        for at in 0..STATEMENTS {
            let row = at as usize * 7919 % ROWS + 1;
            for (into, table) in ["pgbench_twin", "pgbench_accounts"].into_iter().enumerate() {
                let update = format!("update public.{table} set abalance = abalance + 1 where aid = {row}");
                let parts = [
                    "begin",
                    &update,
                    &format!("select abalance from public.{table} where aid = {row}"),
                    "insert into public.pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 1, current_timestamp)",
                    "commit",
                ];
                let begun = Instant::now();
                for part in parts {
                    client.batch_execute(part).expect("nothing is refused");
                }
                self.transactions[into].push(begun.elapsed().as_secs_f64() * 1e6);
                let begun = Instant::now();
                client.batch_execute(&update).expect("nothing is refused");
                self.updates[into].push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
}

/// Transactions a second of pgbench's "simple update": an update, a select and an insert, by two clients.
fn bench(server: &Postgres, role: &str, seconds: u32) -> f64 {
    let mut command = on(server, "pgbench");
    command.env("PGUSER", role);
    command.args(["--no-vacuum", "--builtin=simple-update", "--client=2", "--time", &seconds.to_string()]);
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.expect("pgbench tells its transactions a second")
}

/// Time of one update of a restricted table that finds no row, on the client's side.
fn microseconds(server: &Postgres, role: &str, passes: bool) -> f64 {
    let mut client = server.client(role);
    let begun = Instant::now();
    for _ in 0..STATEMENTS {
        let outcome = client.batch_execute("update public.frozen_1 set n = 2 where id = 2");
        assert_eq!(outcome.is_ok(), passes, "{outcome:?}");
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(STATEMENTS)
}

fn pgdetour(source: &Postgres, target: &Postgres, configuration: &PathBuf, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdetour"));
    command
        .env("PGDETOUR_SOURCE", source.conninfo("dba"))
        .env("PGDETOUR_TARGET", target.conninfo("dba"))
        .args(["restrict", "--quiet", "--config"])
        .arg(configuration)
        .args(options);
    command
}
