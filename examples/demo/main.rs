//! The whole trip on two throwaway servers and a pooler, under load, with a real schema change in the middle.
//!
//! `make demo` runs it. It ends with what the clients saw and what was found; non-zero if anything was lost.

mod load;
mod report;
mod trip;

#[path = "../../tests/support"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod pgbouncer;
    pub mod port;
    pub mod postgres;
    pub mod scratch;
    pub mod wait;
    pub mod writer;
}

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use load::{Pgbench, Shop};
use report::Report;
use support::pgbouncer::{self, PgBouncer};
use support::postgres::{DATABASE, Postgres, Programs, Template};
use support::scratch::{SERVER_USER, Scratch, as_server_user};
use support::wait::until;
use support::writer::{self, Writer};
use trip::{Stop, Trip, say, title};

const SHOP: &str = include_str!("shop.sql");
const MAINTENANCE: &str = include_str!("maintenance.sql");
const MAP: &str = include_str!("map.toml");

fn main() -> ExitCode {
    let begun = Instant::now();
    let trip = Trip::new();
    match drive(&trip) {
        Ok(report) => {
            title("What the clients saw and what was found");
            println!("{report}");
            say(&format!(
                "{:.0} s in all; everything that was started is gone.",
                begun.elapsed().as_secs_f64()
            ));
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(Stop::Interrupted(signal)) => {
            eprintln!("\ninterrupted; everything that was started is gone");
            ExitCode::from(128 + signal)
        }
        Err(Stop::Failed(why)) => {
            eprintln!("\nthe demo failed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The trip, from two empty servers to the report; what it started ends with it, however it ends.
fn drive(trip: &Trip) -> Result<Report, Stop> {
    title("Two servers and a pooler");
    let scratch = Scratch::new();
    let programs = Programs::find("PGDETOUR_DEMO_POSTGRES");
    let template = Template::make(scratch.path().join("template"), programs);
    let source = Postgres::start_new(scratch.path(), "source", &template);
    let target = Postgres::start_new(scratch.path(), "target", &template);
    let pooler = PgBouncer::start_new(scratch.path(), source.port());
    say(&format!(
        "PostgreSQL {} on ports {} (source) and {} (target), PgBouncer on {}{}.",
        source.value::<String>("select split_part(current_setting('server_version'), ' ', 1)"),
        source.port(),
        target.port(),
        pooler.port(),
        if SERVER_USER.is_some() { ", as the user postgres" } else { "" },
    ));
    trip.go_on()?;
    fill(trip, &source)?;
    trip.go_on()?;

    title("An application, pgbench and nobody who waits");
    let conninfo = pooler.conninfo("shop_app");
    let writer = Writer::start(&conninfo, 2);
    let shop = Shop::open(&conninfo);
    let pgbench = Pgbench::start(&source.program("pgbench"), pooler.port());
    say("From here on three kinds of clients write through PgBouncer without a break:");
    say("a writer that numbers its rows, a shop that takes orders, and pgbench.");
    breathe(trip, 2)?;

    let configuration = configure(&scratch, &source, &target, &pooler);
    let run = |command: &str| trip.run(command, &configuration);

    title("Out: the target becomes a copy and takes the traffic");
    run("check")?;
    run("mirror")?;
    run("restrict")?;
    run("capture")?;
    run("verify")?;
    let cutover_begun = Instant::now();
    run("cutover")?;
    writer.until_acknowledged(50);
    let pause_out = writer.longest_gap(cutover_begun, Instant::now());
    let written_before = writer.acknowledged();
    let orders_before = shop.orders();
    run("status")?;

    title("Maintenance on the source, while the target serves");
    for statement in statements(MAINTENANCE) {
        trip.go_on()?;
        let begun = Instant::now();
        source.exec(&statement);
        say(&format!("{statement};  -- {} ms", begun.elapsed().as_millis()));
    }
    append(&configuration, MAP);
    println!();
    say("The configuration learns how old rows become new ones:");
    say(MAP.trim());
    breathe(trip, 3)?;

    title("Home: what was written on the target is brought to the source, and the traffic follows");
    run("replay")?;
    let written_during = writer.acknowledged() - written_before;
    let orders_during = shop.orders() - orders_before;
    let cutback_begun = Instant::now();
    run("cutback")?;
    writer.until_acknowledged(50);
    let pause_home = writer.longest_gap(cutback_begun, Instant::now());
    breathe(trip, 2)?;
    run("status")?;

    title("The clients stop, and what they were told is held against the source");
    let transactions = pgbench.stop();
    let sales = shop.close();
    let written = writer.stop();
    run("clean")?;
    let mut at_source = source.client("dba");
    let mut at_target = target.client("dba");
    Ok(Report {
        pause_out,
        pause_home,
        written_during: written_during + orders_during,
        found: report::Found::at(&mut at_source, &mut at_target, &written, &sales),
        written,
        sales,
        transactions,
    })
}

/// The shop's tables and pgbench's on the source.
fn fill(trip: &Trip, source: &Postgres) -> Result<(), Stop> {
    source.exec(writer::TABLES);
    for statement in statements(SHOP) {
        trip.go_on()?;
        source.exec(&statement);
    }
    let mut pgbench = as_server_user(source.program("pgbench"));
    pgbench.args(["--initialize", "--scale=10", "--quiet", "--username=dba", "--host"]);
    pgbench.arg(source.directory()).arg(format!("--port={}", source.port())).arg(DATABASE);
    trip.finish("pgbench --initialize", pgbench.current_dir("/").stderr(Stdio::null()))?;
    // pgbench's history has no key, and a table that is to be followed needs one.
    source.exec(
        "alter table public.pgbench_history add id bigint generated always as identity primary key;\n\
         grant select, insert, update, delete on all tables in schema public to shop_app",
    );
    let size: String = source.value("select pg_size_pretty(pg_database_size(current_database()))");
    say(&format!("The source holds a small shop and pgbench's tables at scale 10: {size}."));
    Ok(())
}

fn configure(
    scratch: &Scratch,
    source: &Postgres,
    target: &Postgres,
    pooler: &PgBouncer,
) -> std::path::PathBuf {
    let text = format!(
        "[source]\nconninfo = \"{}\"\n\n[target]\nconninfo = \"{}\"\n\n\
         [traffic]\nroles = [\"shop_app\"]\n\n\
         [[restrict]]\ntables = [\"public.user_settings\"]\n\
         message = \"Settings are read-only during maintenance.\"\n\n\
         [router]\nkind = \"pgbouncer\"\n\
         [[router.pgbouncer]]\nadmin = \"{}\"\ndatabase = \"{DATABASE}\"\nconfig = \"{}\"\ntarget = \"{}\"\n",
        source.conninfo("dba"),
        target.conninfo("dba"),
        pooler.console_conninfo(),
        pooler.databases_file().display(),
        pgbouncer::entry(target.port()),
    );
    let path = scratch.path().join("pgdetour.toml");
    std::fs::write(&path, text).expect("the scratch directory can be written");
    path
}

fn append(configuration: &std::path::Path, text: &str) {
    let before = std::fs::read_to_string(configuration).expect("it was written by us");
    std::fs::write(configuration, before + text).expect("the scratch directory can be written");
}

/// The statements of a script, each without its comments: some of them must not share a transaction.
fn statements(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|line| !line.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').to_owned())
        .filter(|s| !s.is_empty())
        .collect()
}

/// Lets the clients work for a while.
fn breathe(trip: &Trip, seconds: u64) -> Result<(), Stop> {
    let begun = Instant::now();
    until("a while has passed", Duration::from_secs(seconds + 5), || {
        let is_over = begun.elapsed() >= Duration::from_secs(seconds);
        (is_over || trip.go_on().is_err()).then_some(())
    });
    trip.go_on()
}

/// The program under demonstration: cargo builds it one directory above its examples.
fn pgdetour() -> Command {
    let example = std::env::current_exe().expect("a program knows its path");
    let directory = example.parent().and_then(std::path::Path::parent).expect("examples have a directory");
    Command::new(directory.join("pgdetour"))
}
