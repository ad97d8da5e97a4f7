//! What completes a schema: indexes, constraints, triggers, foreign keys; each noted as done with its own commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use super::added::refused;
use super::ownership::lending_create;
use super::pool::Pool;
use super::post_data::{self, Kind, PostStatement};
use super::record::{self, TableCopy};
use super::schema;
use super::transfer::RETRY_INTERVAL;
use super::{CopyJob, Prepared, Work};
use crate::error::{Doing as _, Error, Result};
use crate::pg::Session;
use crate::pg::catalog::objects::Name;
use crate::pg::catalog::{Table, facts};
use crate::sql;

/// Most memory for one index build.
const MOST_MEMORY: i64 = 1 << 30;
/// Most parallel workers for one index build.
const MOST_PARALLEL: i32 = 4;
/// How long a statement that changes the schema is tried again while others hold its table.
const PATIENCE: Duration = Duration::from_secs(300);

/// When a part of the schema is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After all rows: triggers, rules, policies, attached indexes.
    AfterCopy,
    /// After the flow has caught up: foreign keys, materialized views, event triggers.
    AfterCatchUp,
}

impl Stage {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Stage::AfterCopy => &[Kind::Other],
            Stage::AfterCatchUp => &[Kind::ForeignKey, Kind::Validate, Kind::Refresh, Kind::Last],
        }
    }
}

/// A session that builds.
pub struct Builder<'a> {
    job: &'a CopyJob<'a>,
    session: Session,
    pid: i32,
}

impl<'a> Builder<'a> {
    /// Gives a session as much memory and help for its builds as the server can be expected to have.
    pub fn new(job: &'a CopyJob<'a>, mut session: Session) -> Result<Self> {
        let row = session.query_one(&sql::flow::READ_COPY_MEMORY, &[])?;
        let jobs = job.jobs.max(1) as i64;
        let (standing, cache): (i64, i64) = (row.get("maintenance_bytes"), row.get("cache_bytes"));
        let memory = (cache / (4 * jobs)).clamp(standing, MOST_MEMORY.max(standing)) / 1024;
        let (standing, parallel): (i32, i32) = (row.get("maintenance_workers"), row.get("parallel_workers"));
        let workers = (parallel / job.jobs.max(1) as i32).min(MOST_PARALLEL).max(standing);
        let pid = session.query_text("select pg_catalog.pg_backend_pid()", &[])?[0].get(0);
        let settings = format!(
            "set maintenance_work_mem = '{memory}kB'; set max_parallel_maintenance_workers = {workers}; \
             set check_function_bodies = off; set xmloption = content; set client_min_messages = warning; \
             set synchronous_commit = off"
        );
        // Settings of a session change nothing that a dry run would have to show.
        if !session.is_dry() {
            session.change_script(&settings).doing(|| "prepare a session".into())?;
            facts::silence_event_triggers(&mut session)?;
        }
        Ok(Builder { job, session, pid })
    }

    /// Runs a statement and notes it as done, in one transaction; waits for others that hold its table.
    pub fn run_in<T: Send>(&mut self, pool: &Pool<T>, statement: &PostStatement) -> Result<()> {
        let session = &mut self.session;
        // What comes last is an object of its own, and beside the others it would not be known as made by us.
        let before = self.job.before.filter(|_| statement.kind == Kind::Last);
        let done = pool.cancellable(self.pid, || {
            patiently(
                || pool.go_on(),
                || {
                    session.atomically(|session| {
                        let script = &statement.statement;
                        schema::noting(session, before, |session| {
                            lending_create(session, script.split(";\n"), |session| {
                                session.change_script(script)
                            })
                        })?;
                        session.change(sql::flow::FINISH_POST_DATA.text, &[&statement.ordinal])
                    })
                },
            )
        });
        let done = done.doing(|| describe(statement));
        match done {
            // What a view lacks, it can be left without.
            Err(error) if statement.kind != Kind::Refresh => return Err(lacking(error)),
            done => done.map(drop)?,
        }
        self.job.progress.statement_done(statement);
        Ok(())
    }

    /// Notes as done what could not be.
    fn leave(&mut self, statement: &PostStatement) -> Result<()> {
        self.session.change(sql::flow::FINISH_POST_DATA.text, &[&statement.ordinal]).map(drop)
    }

    /// Runs all that completes a small table in one message and transaction; whether it did. Where it did not, nothing has
    /// happened, and statement by statement will tell why.
    pub fn complete_small<T: Send>(&mut self, pool: &Pool<T>, work: &Work) -> Result<bool> {
        let table = work.transfer.table;
        let statements = || work.indexes.iter().chain(&work.constraints);
        // A setting for one statement would hold for those after it.
        if self.session.is_dry() || statements().any(|one| one.statement.contains("SET LOCAL ")) {
            return Ok(false);
        }
        let analyzed = !self.is_analyzed_with_root(table);
        let ordinals: Vec<String> = statements().map(|one| one.ordinal.to_string()).collect();
        let mut script: Vec<String> = statements().map(|one| one.statement.clone()).collect();
        if analyzed {
            script.push(format!("analyze {}", analyzed_name(&self.session, table)));
        }
        script.push(sql::flow::FINISH_SMALL_TABLE.with(&[
            ("ordinals", &format!("{{{}}}", ordinals.join(","))),
            ("schema", &table.schema),
            ("table", &table.name),
            ("analyzed", if analyzed { "true" } else { "false" }),
        ]));
        let session = &mut self.session;
        let script = format!("begin;\n{};\ncommit", script.join(";\n"));
        let done = pool.cancellable(self.pid, || match session.change_script(&script) {
            Ok(()) => Ok(true),
            Err(error) if error.is_connection_lost() => Err(error),
            Err(_) => session.change_script("rollback").map(|()| false),
        })?;
        if done {
            statements().for_each(|statement| self.job.progress.statement_done(statement));
        }
        Ok(done)
    }

    /// Before version 18 the statistics of a partition come with its root's.
    pub fn is_analyzed_with_root(&self, table: &Table) -> bool {
        table.root.is_some() && self.session.version < 180_000
    }

    /// Collects a table's statistics. Before version 18 those of a partition come with its root's.
    pub fn analyze<T: Send>(&mut self, pool: &Pool<T>, table: &Table) -> Result<()> {
        if self.is_analyzed_with_root(table) {
            return Ok(());
        }
        pool.cancellable(self.pid, || analyze_now(&mut self.session, table))
    }

    /// Indexes and constraints of partitioned tables: they hold nothing yet and so take no time, but a lock that every
    /// copy into a partition would have to wait for.
    pub fn run_partitioned(&mut self, works: &[Work]) -> Result<()> {
        let pool: Pool<()> = Pool::new(self.job.stop);
        let partitioned = works.iter().filter(|work| work.transfer.table.partitioned);
        for statement in partitioned.flat_map(|work| work.indexes.iter().chain(&work.constraints)) {
            self.run_in(&pool, statement)?;
        }
        Ok(())
    }

    /// Statistics over whole partition trees, which no autovacuum collects.
    pub fn analyze_partitioned(
        &mut self,
        tables: &[Table],
        states: &HashMap<&Name, &TableCopy>,
    ) -> Result<()> {
        let pool: Pool<()> = Pool::new(self.job.stop);
        let recursive = self.session.version < 180_000;
        for table in tables.iter().filter(|table| table.partitioned) {
            let name = table.full_name();
            if recursive && table.root.is_some() || states.get(&name).is_some_and(|state| state.analyzed) {
                continue;
            }
            pool.cancellable(self.pid, || analyze_now(&mut self.session, table))?;
            let below = tables.iter().filter(|other| recursive && other.root.as_ref() == Some(&name));
            for partition in below {
                note_analysis(&mut self.session, partition)?;
            }
        }
        Ok(())
    }
}

fn analyzed_name(session: &Session, table: &Table) -> String {
    let only = if session.version >= 180_000 { "only " } else { "" };
    format!("{only}{}", table.quoted())
}

fn analyze_now(session: &mut Session, table: &Table) -> Result<()> {
    let analyze = format!("analyze {}", analyzed_name(session, table));
    session.change(&analyze, &[]).doing(|| format!("analyze table \"{}\"", table.display()))?;
    note_analysis(session, table)
}

fn note_analysis(session: &mut Session, table: &Table) -> Result<()> {
    let note = sql::flow::FINISH_TABLE_ANALYSIS.text;
    session.change(note, &[&table.schema, &table.name]).map(drop)
}

/// Statistics of the table that was complete last, collected beside what follows the copy: nothing else is left for a
/// worker to do meanwhile.
#[derive(Debug)]
pub struct Analysis(JoinHandle<Result<()>>);

impl Analysis {
    /// Begins, in the session that completed the table.
    pub(super) fn start(builder: Builder<'_>, table: &Table) -> Result<Analysis> {
        let (mut session, table) = (builder.session, table.clone());
        let work = move || analyze_now(&mut session, &table);
        let thread = thread::Builder::new().name("analyze".to_owned()).spawn(work);
        thread.map(Analysis).map_err(Error::io("start a thread"))
    }

    /// Waits for its end.
    pub fn finish(self) -> Result<()> {
        let died = |_| Err(Error::Internal { message: "the thread that collected statistics died".into() });
        self.0.join().unwrap_or_else(died)
    }
}

/// What the server lacks for a statement only a person can mend; the rows are no such lack.
fn lacking(error: Error) -> Error {
    let is_of_rows = error.server_error().is_some_and(|cause| {
        cause.sqlstate.as_deref().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    });
    if is_of_rows { error } else { refused("cannot_complete", error) }
}

/// `run "CREATE INDEX …"`: the beginning of the statement itself, for messages.
pub(super) fn describe(statement: &PostStatement) -> String {
    let lines = statement.statement.lines().filter(|line| !line.starts_with("SET LOCAL "));
    let text: String = lines.flat_map(|line| [line.trim(), " "]).collect();
    let start: String = text.trim().chars().take(100).collect();
    format!("run \"{start}\"")
}

/// Whether a view cannot be filled on this server, such as for want of a foreign server that it reads: the same run again would fail
/// again. Otherwise somebody was in the way, the server has no room or ended it, or the connection broke.
fn is_of_the_view(error: &Error) -> bool {
    let passing = ["40", "53", "55P", "57", "58"];
    !error.is_connection_lost()
        && error.server_error().is_some_and(|cause| {
            cause.sqlstate.as_deref().is_some_and(|code| !passing.iter().any(|class| code.starts_with(class)))
        })
}

fn unfilled(statement: &PostStatement, error: &Error) -> String {
    let refresh = statement.statement.lines().next().unwrap_or_default().trim_end_matches(';');
    let cause = error.server_error().map_or_else(|| error.to_string(), ToString::to_string);
    format!(
        "a materialized view is left without rows, since the server could not fill it ({cause}): run {refresh}; once it can"
    )
}

/// Repeats `attempt` while others hold a lock that it needs.
fn patiently<T>(go_on: impl Fn() -> Result<()>, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        go_on()?;
        let result = attempt();
        let in_the_way = |error: &Error| {
            error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
                || error.is_sqlstate(&SqlState::T_R_DEADLOCK_DETECTED)
        };
        if !result.as_ref().is_err_and(in_the_way) || Instant::now() > deadline {
            return result;
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

impl Prepared {
    /// Whether anything is made in a stage, be it done or not.
    pub fn has(&self, stage: Stage) -> bool {
        self.post_data.iter().any(|statement| stage.kinds().contains(&statement.kind))
    }
}

impl CopyJob<'_> {
    /// Runs what is left of a stage; what could not be done on this server and can be done without, as warnings.
    pub fn complete_schema(
        &self,
        session: &mut Session,
        prepared: &Prepared,
        stage: Stage,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if !prepared.has(stage) {
            return Ok(warnings);
        }
        let post_data = super::list_post_data(session, prepared)?;
        let deselected = self.list_deselected(session)?;
        let passed_over = post_data::list_of(&post_data, &deselected);
        let mut builder = None;
        for kind in stage.kinds() {
            let left = |statement: &&PostStatement| {
                statement.kind == *kind && !statement.done && !passed_over.contains(&statement.ordinal)
            };
            let statements: Vec<&PostStatement> = post_data.iter().filter(left).collect();
            if session.is_dry() {
                statements.iter().try_for_each(|statement| session.change_script(&statement.statement))?;
                continue;
            }
            if statements.is_empty() {
                continue;
            }
            let builder = super::opened(&mut builder, || Builder::new(self, self.subscriber.connect()?))?;
            warnings.extend(self.run_kind(builder, *kind, statements)?);
        }
        Ok(warnings)
    }

    /// Tables that were selected when what completes the schema was noted, and are not any more.
    fn list_deselected(&self, session: &mut Session) -> Result<HashSet<Name>> {
        let selected: HashSet<Name> = self.tables.iter().map(Table::full_name).collect();
        let noted = record::list_tables(session)?.into_iter().map(|copy| copy.name);
        Ok(noted.filter(|name| !selected.contains(name)).collect())
    }

    fn run_kind(
        &self,
        builder: &mut Builder<'_>,
        kind: Kind,
        statements: Vec<&PostStatement>,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let pool: Pool<Vec<&PostStatement>> = Pool::new(self.stop);
        if kind != Kind::Validate {
            for statement in statements {
                match builder.run_in(&pool, statement) {
                    Err(error) if kind == Kind::Refresh && is_of_the_view(&error) => {
                        builder.leave(statement)?;
                        warnings.push(unfilled(statement, &error));
                    }
                    result => result?,
                }
            }
            return Ok(warnings);
        }
        // Two validations on one table would wait for each other.
        let mut by_table: BTreeMap<Option<&Name>, Vec<&PostStatement>> = BTreeMap::new();
        for statement in statements {
            by_table.entry(statement.table.as_ref()).or_default().push(statement);
        }
        for (table, statements) in by_table {
            let same = |other: &&Table| {
                table.is_some_and(|(schema, name)| other.schema == *schema && other.name == *name)
            };
            let weight = self.tables.iter().find(same).map_or(0, |table| table.data_bytes.cast_unsigned());
            pool.push(weight, statements);
        }
        let start = || None;
        pool.run(self.subscriber, self.jobs, start, |builder: &mut Option<Builder>, statements| {
            let builder = super::opened(builder, || Builder::new(self, self.subscriber.connect()?))?;
            statements.into_iter().try_for_each(|statement| builder.run_in(&pool, statement))
        })?;
        Ok(warnings)
    }
}
