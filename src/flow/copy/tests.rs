//! Copies between real servers, under writers, cut off and resumed.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{CopyJob, CopyReport, Prepared, Progress, SchemaMode, Stage, State, list_table_copies};
use crate::error::Error;
use crate::flow::test_stop::StopAtEnd;
use crate::pg::catalog::emptiness::read_emptiness;
use crate::pg::catalog::{self, Table};
use crate::pg::dump::{Entry, program, script};
use crate::pg::test_server::TestServer;
use crate::pg::{Server, Session, record};
use crate::phase::Side;
use crate::plan::Plan;
use crate::sql;

/// A database with what dumps and copies stumble over.
const SCHEMA: &str = include_str!("tests.sql");

/// Copies all tables, the last one's statistics included.
fn copy_to_the_end(job: &CopyJob, prepared: &Prepared) -> CopyReport {
    let (mut source, mut target) = (job.publisher.connect().unwrap(), job.subscriber.connect().unwrap());
    let (report, analysis) = job.copy_tables(&mut source, &mut target, prepared).unwrap();
    if let Some(analysis) = analysis {
        analysis.finish().unwrap();
    }
    report
}

struct Pair {
    source_server: TestServer,
    target_server: TestServer,
    source: Server,
    target: Server,
}

impl Pair {
    fn start() -> Pair {
        let (source_server, target_server) = (TestServer::start(""), TestServer::start(""));
        let source = source_server.server(Side::Source);
        let target = target_server.server(Side::Target);
        for side in [&source, &target] {
            let roles = "create role bob; create role carol";
            side.connect().unwrap().change_script(roles).unwrap();
        }
        let pair = Pair { source_server, target_server, source, target };
        record::create(&mut pair.source(), None, &mut pair.target(), &serde_json::json!({})).unwrap();
        pair
    }

    fn source(&self) -> Session {
        self.source.connect().unwrap()
    }

    fn target(&self) -> Session {
        self.target.connect().unwrap()
    }

    fn tables(&self) -> Vec<Table> {
        catalog::list_tables(&mut self.source()).unwrap()
    }

    fn job<'a>(
        &'a self,
        tables: &'a [Table],
        stop: &'a AtomicBool,
        progress: &'a dyn Progress,
    ) -> CopyJob<'a> {
        CopyJob {
            publisher: &self.source,
            subscriber: &self.target,
            tables,
            left_empty: &[],
            before: None,
            mode: SchemaMode::Dump,
            jobs: 3,
            limits: super::Limits::default(),
            stop,
            progress,
        }
    }

    /// Copies everything and completes the schema.
    fn copy_all(&self) -> CopyReport {
        let (stop, tables) = (AtomicBool::new(false), self.tables());
        let job = self.job(&tables, &stop, &Silent);
        let prepared = job.prepare(&mut self.target(), None).unwrap();
        assert_eq!(prepared.warnings, [""; 0]);
        let report = copy_to_the_end(&job, &prepared);
        job.complete_schema(&mut self.target(), &prepared, Stage::AfterCopy).unwrap();
        job.complete_schema(&mut self.target(), &prepared, Stage::AfterCatchUp).unwrap();
        report
    }

    fn dump(server: &TestServer) -> String {
        let program = program::find_pg_dump(15).unwrap();
        let output = Command::new(program)
            .args(["--schema-only", "--exclude-schema=pgdetour", "--dbname", &server.conninfo_text()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Hash and count of a table's rows, in an order that does not depend on the collation.
fn digest(session: &mut Session, table: &str, condition: &str) -> (i64, String) {
    let text = format!(
        "select pg_catalog.count(*), \
         coalesce(pg_catalog.md5(pg_catalog.string_agg(t::text, E'\\n' order by t::text collate \"C\")), '') \
         from only {table} as t where {condition}"
    );
    let rows = session.query_text(&text, &[]).unwrap();
    (rows[0].get(0), rows[0].get(1))
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to pass");
        thread::sleep(Duration::from_millis(20));
    }
}

struct Silent;

impl Progress for Silent {}

/// Sets the stop flag when so many tables are copied, or so many bytes of one.
struct StopAfter<'a> {
    stop: &'a AtomicBool,
    tables: u64,
    bytes: u64,
    copied: AtomicU64,
    moved: AtomicU64,
}

impl Progress for StopAfter<'_> {
    fn bytes_copied(&self, _: &str, bytes: u64) {
        if self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.bytes {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn table_copied(&self, _: &str, _: u64, _: u64) {
        if self.copied.fetch_add(1, Ordering::Relaxed) + 1 >= self.tables {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Every row of every table, and the schema, are the same on both sides.
fn assert_equal(pair: &Pair) {
    let (mut source, mut target) = (pair.source(), pair.target());
    for table in pair.tables().iter().filter(|table| !table.partitioned) {
        let name = table.quoted();
        let (here, there) = (digest(&mut source, &name, "true"), digest(&mut target, &name, "true"));
        assert_eq!(here, there, "rows of {name}");
    }
    let (here, there) = (Pair::dump(&pair.source_server), Pair::dump(&pair.target_server));
    for (one, other) in here.lines().zip(there.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(here.len(), there.len());
}

#[test]
fn everything_that_a_schema_can_hold_arrives_as_it_was() {
    let pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let report = pair.copy_all();
    assert_equal(&pair);
    let mut source = pair.source();
    assert!(report.rows > 0 && report.bytes > 0);
    let copies = list_table_copies(&mut pair.target()).unwrap();
    for copy in &copies {
        assert_eq!(copy.state, State::Copied);
        assert!(copy.analyzed, "{:?}", copy.name);
        if copy.snapshot.is_some() {
            let name = sql::quote_qualified(&copy.name.0, &copy.name.1);
            assert_eq!(copy.rows, digest(&mut source, &name, "true").0.cast_unsigned(), "{name}");
        }
    }
    let total: u64 = copies.iter().map(|copy| copy.rows).sum();
    assert_eq!(total, report.rows);
    let mut target = pair.target();
    let one = |session: &mut Session, text: &str| -> i64 { session.query_text(text, &[]).unwrap()[0].get(0) };
    assert_eq!(one(&mut target, "select count(*) from pgdetour.post_data where done_at is null"), 0);
    assert_eq!(
        one(&mut target, "select count(*) from public.mv"),
        one(&mut source, "select count(*) from public.mv")
    );
    assert_eq!(
        one(
            &mut target,
            "select count(*) from pg_catalog.pg_constraint where not convalidated and connamespace <> 11"
        ),
        one(
            &mut source,
            "select count(*) from pg_catalog.pg_constraint where not convalidated and connamespace <> 11"
        )
    );
    assert_eq!(one(&mut target, "select count(*) from pg_catalog.pg_index where not indisvalid"), 0);
    // A second run finds everything done.
    let again = pair.copy_all();
    assert_eq!(again, report);
}

#[test]
fn a_copy_under_writers_holds_exactly_what_its_snapshot_shows() {
    let pair = Pair::start();
    let schema = "create table public.log (id bigint generated always as identity primary key, xid xid8 not null \
                  default pg_catalog.pg_current_xact_id(), filler text not null default pg_catalog.repeat('x', 200));\
                  create table public.small (id bigint generated always as identity primary key, xid xid8 not null \
                  default pg_catalog.pg_current_xact_id());\
                  insert into public.log (filler) select pg_catalog.repeat('y', 200) from pg_catalog.generate_series(1, 20000);\
                  insert into public.small select from pg_catalog.generate_series(1, 3) as g (n) where false";
    pair.source().change_script(schema).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _writers = StopAtEnd(&done);
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = pair.source();
                while !done.load(Ordering::Relaxed) {
                    let script = "begin; insert into public.log default values; insert into public.small default values; \
                                  savepoint a; insert into public.log default values; rollback to a; \
                                  select pg_catalog.pg_sleep(0.002); insert into public.log default values; commit";
                    session.change_script(script).unwrap();
                }
            });
        }
        let more_is_written = || {
            let mut session = pair.source();
            for table in ["public.log", "public.small"] {
                let before = digest(&mut session, table, "true").0;
                wait_until(|| digest(&mut session, table, "true").0 > before);
            }
        };
        more_is_written();
        let (stop, tables) = (AtomicBool::new(false), pair.tables());
        let job = pair.job(&tables, &stop, &Silent);
        let prepared = job.prepare(&mut pair.target(), None).unwrap();
        copy_to_the_end(&job, &prepared);
        more_is_written();
    });
    for copy in list_table_copies(&mut pair.target()).unwrap() {
        let name = sql::quote_qualified(&copy.name.0, &copy.name.1);
        let snapshot = copy.snapshot.expect("copied");
        let visible = format!("pg_catalog.pg_visible_in_snapshot(t.xid, '{snapshot}')");
        let here = digest(&mut pair.source(), &name, &visible);
        let all = digest(&mut pair.source(), &name, "true");
        let there = digest(&mut pair.target(), &name, "true");
        assert_eq!(here, there, "{name} under {snapshot}");
        assert!(all.0 > here.0, "writers wrote after the snapshot");
        assert_eq!(copy.rows, there.0.cast_unsigned());
    }
}

#[test]
fn a_stopped_copy_goes_on_where_it_was_and_ends_exact() {
    let pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let tables = pair.tables();
    for (count, bytes) in [(u64::MAX, 300_000), (2, u64::MAX), (4, u64::MAX), (u64::MAX, 2_000_000)] {
        let stop = AtomicBool::new(false);
        let progress = StopAfter {
            stop: &stop,
            tables: count,
            bytes,
            copied: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        };
        let job = pair.job(&tables, &stop, &progress);
        let prepared = job.prepare(&mut pair.target(), None).unwrap();
        if let Err(error) = job.copy_tables(&mut pair.source(), &mut pair.target(), &prepared) {
            assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
        }
    }
    let before = list_table_copies(&mut pair.target()).unwrap();
    assert!(before.iter().any(|copy| copy.state == State::Copied && copy.snapshot.is_some()));
    pair.copy_all();
    assert_equal(&pair);
    let after = list_table_copies(&mut pair.target()).unwrap();
    for (one, other) in before.iter().zip(&after).filter(|(one, _)| one.state == State::Copied) {
        assert_eq!(one.snapshot, other.snapshot, "a copied table is not copied again");
    }
}

/// Ends sessions of the copy on one server, those whose statement is like a pattern, once so many bytes of the largest
/// table have come.
struct KillAfter<'a> {
    victim: &'a Server,
    pattern: &'a str,
    bytes: u64,
    moved: AtomicU64,
    killed: AtomicBool,
}

impl Progress for KillAfter<'_> {
    fn bytes_copied(&self, table: &str, bytes: u64) {
        if table != "public.big"
            || self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes < self.bytes
            || self.killed.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let kill = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
                    where application_name = 'pgdetour test' and pid <> pg_catalog.pg_backend_pid() and query like $1";
        let killed = self.victim.connect().unwrap().query_text(kill, &[&self.pattern]).unwrap();
        assert!(!killed.is_empty(), "{}", self.pattern);
    }
}

#[test]
fn a_copy_whose_sessions_are_killed_goes_on_and_ends_exact() {
    let pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    // The snapshot that ranges share goes with the session that keeps it, and nothing else does.
    for (victim, pattern, bytes) in [
        (&pair.source, "%pg_export_snapshot%", 1),
        (&pair.target, "%", 1),
        (&pair.source, "%", 300_000),
        (&pair.target, "%", 2_000_000),
    ] {
        let progress =
            KillAfter { victim, pattern, bytes, moved: AtomicU64::new(0), killed: AtomicBool::new(false) };
        let job = pair.job(&tables, &stop, &progress);
        let prepared = job.prepare(&mut pair.target(), None).unwrap();
        let error = job
            .copy_tables(&mut pair.source(), &mut pair.target(), &prepared)
            .map(|(report, _)| report)
            .unwrap_err();
        assert!(error.is_connection_lost(), "{error:?}");
    }
    pair.copy_all();
    assert_equal(&pair);
}

#[test]
fn a_target_role_that_is_no_superuser_gets_what_it_may_make() {
    let (source_server, target_server) = (TestServer::start(""), TestServer::start(""));
    let server = |side: Side, conninfo| Server {
        place: side.into(),
        conninfo,
        application_name: "pgdetour test".into(),
        plan: Plan::real(),
        conventions: crate::pg::Conventions::default(),
    };
    let plain = format!("host=127.0.0.1 port={} dbname=postgres user=plain", target_server.port);
    let source = server(Side::Source, source_server.conninfo());
    let target = server(Side::Target, crate::pg::Conninfo::parse(&plain).unwrap());
    source.connect().unwrap().change_script("create role bob; create role carol").unwrap();
    let roles = "create role bob; create role carol; create role plain login; grant carol to plain; \
                 grant create on database postgres to plain; grant create on schema public to plain, carol";
    server(Side::Target, target_server.conninfo()).connect().unwrap().change_script(roles).unwrap();
    let pair = Pair { source_server, target_server, source, target };
    record::create(&mut pair.source(), None, &mut pair.target(), &serde_json::json!({})).unwrap();
    let schema = "create table public.t (id int8 primary key, n int4); alter table public.t owner to bob; \
                  create table public.u (id int8 primary key references public.t); alter table public.u owner to carol; \
                  grant select on public.u to bob with grant option; \
                  create function public.et() returns event_trigger language plpgsql as $$ begin end; $$; \
                  create event trigger et on ddl_command_end execute function public.et(); \
                  insert into public.t values (1, 1), (2, 2); insert into public.u values (1)";
    pair.source().change_script(schema).unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = pair.job(&tables, &stop, &Silent);
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    let expected = [
        "may not act for role \"bob\"",
        "may not act for role \"postgres\"",
        "only superusers may make event triggers",
    ];
    for (warning, expected) in prepared.warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{warning}");
    }
    assert_eq!(prepared.warnings.len(), expected.len(), "{:?}", prepared.warnings);
    assert_eq!(copy_to_the_end(&job, &prepared).rows, 3);
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCopy).unwrap();
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCatchUp).unwrap();
    let owners = "select pg_catalog.string_agg(relname || ' ' || relowner::pg_catalog.regrole, ', ' order by relname) \
                  from pg_catalog.pg_class where relkind = 'r' and relnamespace = 'public'::pg_catalog.regnamespace";
    assert_eq!(pair.target().query_text(owners, &[]).unwrap()[0].get::<_, &str>(0), "t plain, u carol");
}

#[test]
fn a_row_that_the_subscriber_refuses_names_its_table() {
    let pair = Pair::start();
    pair.source()
        .change_script("create table public.t (n int4); insert into public.t values (1), (-1)")
        .unwrap();
    pair.target().change_script("create table public.t (n int4 check (n > 0))").unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = CopyJob { mode: SchemaMode::Existing, ..pair.job(&tables, &stop, &Silent) };
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    let error = job
        .copy_tables(&mut pair.source(), &mut pair.target(), &prepared)
        .map(|(report, _)| report)
        .unwrap_err();
    assert_eq!(error.to_string(), "could not copy table \"public.t\" on target");
    assert_eq!(error.server_error().unwrap().sqlstate.as_deref(), Some("23514"));
    // What is in the way is mended; the same command goes on.
    pair.target().change_script("alter table public.t drop constraint t_n_check").unwrap();
    let report = copy_to_the_end(&job, &job.prepare(&mut pair.target(), None).unwrap());
    assert_eq!(report.rows, 2);
}

#[test]
fn tables_that_exist_may_have_other_types_and_more_columns() {
    let pair = Pair::start();
    let source = "create table public.t (n int4, s varchar(20), g int4 generated always as (n * 2) stored); \
                  insert into public.t select g, 'r' || g from pg_catalog.generate_series(1, 500) as g";
    pair.source().change_script(source).unwrap();
    let target = "create table public.t (s text, more text default 'm', n int8, g int4 generated always as (n * 2) stored)";
    pair.target().change_script(target).unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = CopyJob { mode: SchemaMode::Existing, ..pair.job(&tables, &stop, &Silent) };
    let report = copy_to_the_end(&job, &job.prepare(&mut pair.target(), None).unwrap());
    assert_eq!(report.rows, 500);
    let rows = pair
        .target()
        .query_text("select sum(n)::int8, count(*) filter (where s = 'r' || n and more = 'm' and g = n * 2) from public.t", &[])
        .unwrap();
    assert_eq!((rows[0].get::<_, i64>(0), rows[0].get::<_, i64>(1)), (125_250, 500));
}

#[test]
fn a_copy_that_waits_for_a_lock_names_who_holds_it_can_be_stopped_and_goes_on() {
    let pair = Pair::start();
    pair.source().change_script("create table public.t (n int4)").unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = pair.job(&tables, &stop, &Silent);
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    let mut holder = pair.source();
    holder.change_script("begin; lock table public.t in access exclusive mode").unwrap();
    let error = job.copy_tables(&mut pair.source(), &mut pair.target(), &prepared).unwrap_err();
    let pid: i32 = holder.query_text("select pg_catalog.pg_backend_pid()", &[]).unwrap()[0].get(0);
    let Error::TimedOut { what, detail, .. } = error else { panic!("{error:?}") };
    assert_eq!(what, "the lock to read table \"public.t\"");
    let detail = detail.unwrap();
    assert!(detail.starts_with(&format!("pid {pid} (role \"postgres\", for ")), "{detail}");

    let result = thread::scope(|scope| {
        let asked = StopAtEnd(&stop);
        let copying = scope.spawn(|| job.copy_tables(&mut pair.source(), &mut pair.target(), &prepared));
        let waiting = "select from pg_catalog.pg_locks where not granted";
        wait_until(|| !pair.source().query_text(waiting, &[]).unwrap().is_empty());
        drop(asked);
        copying.join().unwrap()
    });
    assert!(matches!(result.unwrap_err(), Error::Interrupted { .. }));
    holder.change_script("rollback").unwrap();
    stop.store(false, Ordering::Relaxed);
    copy_to_the_end(&job, &prepared);
}

#[test]
fn a_selection_leaves_out_what_hangs_on_other_tables() {
    let pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let mut tables = pair.tables();
    tables.retain(|table| table.name == "a" || table.name == "big" || table.name.starts_with('p'));
    let stop = AtomicBool::new(false);
    let job = pair.job(&tables, &stop, &Silent);
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    assert!(
        prepared.warnings.iter().any(|warning| warning.contains("is not mirrored")),
        "{:?}",
        prepared.warnings
    );
    copy_to_the_end(&job, &prepared);
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCopy).unwrap();
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCatchUp).unwrap();
    let names: Vec<String> =
        catalog::list_tables(&mut pair.target()).unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(names.len(), tables.len());
}

#[test]
fn roles_that_are_missing_cost_their_grants_and_a_warning() {
    let pair = Pair::start();
    let source = "create role dave; create table public.t (n int4); alter table public.t owner to dave; \
                  grant select on public.t to bob, dave; alter table public.t enable row level security; \
                  create policy one on public.t to dave using (true); create policy two on public.t to dave, bob using (true)";
    pair.source().change_script(source).unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = pair.job(&tables, &stop, &Silent);
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    assert_eq!(prepared.warnings.len(), 1, "{:?}", prepared.warnings);
    assert!(prepared.warnings[0].starts_with("role \"dave\" does not exist"));
    copy_to_the_end(&job, &prepared);
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCopy).unwrap();
    let rows = pair
        .target()
        .query_text(
            "select polname::text, polroles::pg_catalog.regrole[]::text from pg_catalog.pg_policy",
            &[],
        )
        .unwrap();
    assert_eq!((rows[0].get(0), rows[0].get(1)), ("two", "{bob}"));
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_dry_run_notes_what_it_would_do_and_does_nothing() {
    let mut pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let plan = Plan::dry();
    pair.source.plan = plan.clone();
    pair.target.plan = plan.clone();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = pair.job(&tables, &stop, &Silent);
    let prepared = job.prepare(&mut pair.target(), None).unwrap();
    copy_to_the_end(&job, &prepared);
    job.complete_schema(&mut pair.target(), &prepared, Stage::AfterCopy).unwrap();
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    assert!(actions.iter().any(|action| action.starts_with("CREATE TABLE public.a")));
    assert!(actions.iter().any(|action| action.starts_with("copy \"public\".\"a\"")));
    assert!(actions.iter().any(|action| action.contains("freeze")));
    assert!(catalog::list_tables(&mut pair.target()).unwrap().is_empty());
}

/// Looks on the publisher, each time a table is copied, for transactions of the copy that still hold a snapshot there.
struct LookingForSnapshots<'a> {
    pair: &'a Pair,
    tables: AtomicU64,
}

impl Progress for LookingForSnapshots<'_> {
    fn table_copied(&self, _: &str, _: u64, _: u64) {
        let held = "select from pg_catalog.pg_stat_activity \
                    where application_name = 'pgdetour test' and backend_xmin is not null \
                      and pid <> pg_catalog.pg_backend_pid()";
        let mut session = self.pair.source();
        // A session that was closed takes a moment to go.
        wait_until(|| session.query_text(held, &[]).unwrap().is_empty());
        self.tables.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_snapshot_outlives_the_copy_of_its_table() {
    // One after the other, whole; then one in ranges, by several workers.
    for (jobs, count) in [(1, 4), (3, 1)] {
        let pair = Pair::start();
        for n in 1..=count {
            let rows = "select n, repeat('x', 100) from generate_series(1, 5000) as n";
            let table =
                format!("create table public.t{n} (id int4, note text); insert into public.t{n} {rows}");
            pair.source().change_script(&table).unwrap();
        }
        let (stop, tables) = (AtomicBool::new(false), pair.tables());
        let looking = LookingForSnapshots { pair: &pair, tables: AtomicU64::new(0) };
        let job = CopyJob { jobs, ..pair.job(&tables, &stop, &looking) };
        let prepared = job.prepare(&mut pair.target(), None).unwrap();
        assert_eq!(copy_to_the_end(&job, &prepared).rows, 5000 * count);
        assert_eq!(looking.tables.load(Ordering::Relaxed), count);
    }
}

#[test]
fn one_dump_falls_into_the_halves_that_two_would_be() {
    let pair = Pair::start();
    pair.source().change_script(SCHEMA).unwrap();
    let program = program::find_pg_dump(15).unwrap();
    let stop = AtomicBool::new(false);
    let dump = |options: &[String]| {
        let script = program::run_pg_dump(&program, &pair.source, options, &stop).unwrap();
        script::split(&script).unwrap()
    };
    let plain = |entries: Vec<Entry>| -> Vec<Entry> {
        let plain = |mut entry: Entry| {
            entry
                .statements
                .retain(|statement| !statement.starts_with("SET ") && !statement.contains("search_path"));
            entry
        };
        entries.into_iter().map(plain).filter(|entry| !entry.statements.is_empty()).collect()
    };
    let (pre_data, post_data) = script::halve(dump(&[]));
    assert_eq!(plain(pre_data), plain(dump(&["--section=pre-data".into()])));
    assert_eq!(plain(post_data), plain(dump(&["--section=post-data".into()])));
}

#[test]
fn a_load_in_several_transactions_that_begins_again_removes_what_it_made_and_nothing_else() {
    let pair = Pair::start();
    let many = "do $$ begin
         for n in 1..1100 loop execute pg_catalog.format('create type public.e%s as enum ()', n); end loop;
     end $$; create text search configuration public.c (copy = pg_catalog.simple); create table public.t (id int4 primary key)";
    pair.source().change_script(many).unwrap();
    // It comes behind more types than are made in one transaction.
    let in_the_way = "create text search configuration public.c (copy = pg_catalog.simple)";
    pair.target().change_script(in_the_way).unwrap();
    let before = read_emptiness(&mut pair.target()).unwrap();
    let (stop, tables) = (AtomicBool::new(false), pair.tables());
    let job = CopyJob { before: Some(&before), ..pair.job(&tables, &stop, &Silent) };
    assert!(
        job.prepare(&mut pair.target(), None)
            .unwrap_err()
            .to_string()
            .contains("text search configuration \"c\"")
    );
    let count = "select pg_catalog.count(*) from pg_catalog.pg_type where typtype = 'e'";
    assert_eq!(
        pair.target().query_text(count, &[]).unwrap()[0].get::<_, i64>(0),
        999,
        "the settings are an entry, too"
    );
    pair.target().change_script("drop type public.e1; create type public.e1 as enum ('theirs')").unwrap();
    match job.prepare(&mut pair.target(), None).unwrap_err() {
        Error::ChecksFailed { findings } => {
            let named: Vec<&str> = findings.iter().map(|finding| finding.object.as_str()).collect();
            assert_eq!(named, ["type public.e1"]);
        }
        other => panic!("{other}"),
    }
    pair.target().change_script("drop type public.e1; drop text search configuration public.c").unwrap();
    job.prepare(&mut pair.target(), None).unwrap();
    assert_eq!(pair.target().query_text(count, &[]).unwrap()[0].get::<_, i64>(0), 1100);
}
