//! The copy half of a flow: schema and rows, one snapshot per table, resumable table by table.

mod added;
mod completion;
mod ownership;
pub(super) mod pool;
mod post_data;
mod record;
mod schema;
#[cfg(test)]
mod tests;
mod throttle;
mod transfer;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub use completion::{Analysis, Stage};
pub use post_data::{Kind, PostStatement};
pub use record::{
    State, TableCopy, list_tables as list_table_copies, note_origins, repeat_tables, update_fingerprints,
};
pub use schema::{Draft, Receiver, list_foreign, list_strange};
pub use throttle::Limits;

use self::added::Addition;
use self::completion::Builder;
use self::pool::Pool;
use self::throttle::Throttle;
use self::transfer::{Emptying, Pipe, Range, SharedRead, Transfer};
use crate::error::{Error, Result};
use crate::pg::catalog::emptiness::Emptiness;
use crate::pg::catalog::objects::{self, Name};
use crate::pg::catalog::{self, Table, facts, origin};
use crate::pg::{Server, Session};
use crate::sql;

/// Whose the tables on the subscriber are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaMode {
    /// Ours: dumped from the publisher, made by us.
    Dump,
    /// They exist already, and are empty.
    Existing,
}

/// Hears how a copy goes on; called by several threads.
#[expect(unused_variables, reason = "who does not ask to hear of something does nothing")]
pub trait Progress: Sync {
    /// A table's copy begins; `bytes` is its size on the publisher.
    fn table_started(&self, table: &str, bytes: u64) {}
    /// So many more bytes of a table were handed over.
    fn bytes_copied(&self, table: &str, bytes: u64) {}
    /// All rows of a table are there.
    fn table_copied(&self, table: &str, rows: u64, bytes: u64) {}
    /// An earlier run has left `kept` tables whole and begun others, which are done again; `left` were not begun.
    fn resumed(&self, kept: usize, again: &[String], left: usize) {}
    /// The copy pauses for this reason; none when it goes on.
    fn paused(&self, reason: Option<&str>) {}
    /// An index, a constraint or another part of the schema was made.
    fn statement_done(&self, statement: &PostStatement) {}
}

/// A copy from one server to the other. The subscriber holds the record of it.
pub struct CopyJob<'a> {
    /// Where the rows are.
    pub publisher: &'a Server,
    /// Where they go.
    pub subscriber: &'a Server,
    /// The selected tables, partitions and partitioned ones alike.
    pub tables: &'a [Table],
    /// Tables whose definition goes over and whose rows do not.
    pub left_empty: &'a [Table],
    /// What the subscriber held before it was filled, where its schema is made from a dump.
    pub before: Option<&'a Emptiness>,
    /// Whose the tables on the subscriber are.
    pub mode: SchemaMode,
    /// Workers at a time.
    pub jobs: usize,
    /// How fast it may read.
    pub limits: Limits,
    /// Set by the caller to end early; everything can be resumed.
    pub stop: &'a AtomicBool,
    /// Hears how it goes on.
    pub progress: &'a dyn Progress,
}

/// A schema that is made, and what completes it.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// What completes the schema, in order.
    pub post_data: Vec<PostStatement>,
    /// What could not be taken over.
    pub warnings: Vec<String>,
}

/// What a copy moved, earlier runs of it included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CopyReport {
    /// Tables copied, partitioned ones not counted.
    pub tables: usize,
    /// Rows copied.
    pub rows: u64,
    /// Bytes of data copied.
    pub bytes: u64,
}

enum Task {
    Table(usize),
    Range(usize, Arc<SharedRead>, Range),
    Index(usize, PostStatement),
    Complete(usize),
}

/// One table on its way.
struct Work<'a> {
    transfer: Transfer<'a>,
    /// Index builds still to come; the one that finishes last completes the table.
    indexes_left: AtomicUsize,
    indexes: Vec<PostStatement>,
    constraints: Vec<PostStatement>,
    weight: u64,
    cut: bool,
}

impl CopyJob<'_> {
    /// Makes the schema on the subscriber, of which `session` is one, in one transaction, or finds that it is made; in existing mode, checks that
    /// the tables fit. Afterwards the record knows every table that is to be copied. A `draft` that fits saves a dump.
    pub fn prepare(&self, session: &mut Session, draft: Option<Draft>) -> Result<Prepared> {
        let prepared = self.make_schema(session, draft)?;
        self.note_origins(session)?;
        Ok(prepared)
    }

    /// Notes what each table is whose rows are still to be read. One without rows of its own is what its partitions say it is.
    fn note_origins(&self, session: &mut Session) -> Result<()> {
        let copies = record::list_tables(session)?;
        let is_copied =
            |name: &Name| copies.iter().any(|copy| copy.name == *name && copy.state == State::Copied);
        let wanted = self.tables.iter().filter_map(|table| {
            let name = table.full_name();
            (table.partitioned || !is_copied(&name)).then_some(name)
        });
        let wanted: Vec<Name> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        if session.is_dry() {
            session.note("record what the tables to copy are on the publisher");
            return Ok(());
        }
        record::note_origins(session, &origin::list_origins(&mut self.publisher.connect()?, &wanted)?)
    }

    fn make_schema(&self, session: &mut Session, draft: Option<Draft>) -> Result<Prepared> {
        let noted = record::list_tables(session)?;
        if !noted.is_empty() {
            let warnings = self.prepare_added(session, &noted)?;
            let post_data = post_data::list(session)?;
            return Ok(Prepared { post_data, warnings });
        }
        match self.mode {
            SchemaMode::Dump => {
                let (post_data, warnings) = schema::load(self, session, draft)?;
                Ok(Prepared { post_data, warnings })
            }
            SchemaMode::Existing => {
                schema::require_existing(self.tables, session)?;
                let fingerprints = objects::fingerprint_tables(&mut self.publisher.connect()?, self.tables)?;
                record::insert_tables(session, self.tables, &fingerprints)?;
                let mut warnings = Vec::new();
                if !facts::may_set_replica_role(session)? {
                    warnings.push(
                        "may not set session_replication_role: triggers and foreign keys of the tables act on the copied rows"
                            .into(),
                    );
                }
                Ok(Prepared { post_data: Vec::new(), warnings })
            }
        }
    }

    /// Makes tables that are selected now and were not when the rest was made.
    fn prepare_added(&self, session: &mut Session, noted: &[TableCopy]) -> Result<Vec<String>> {
        let added = self.list_added(noted);
        if added.is_empty() {
            return Ok(Vec::new());
        }
        match self.mode {
            SchemaMode::Dump => {
                let addition = Addition::read(self, session, &added)?;
                addition.make(session, self.before)
            }
            SchemaMode::Existing => {
                schema::require_existing(&added, session)?;
                let fingerprints = objects::fingerprint_tables(&mut self.publisher.connect()?, &added)?;
                record::insert_tables(session, &added, &fingerprints)?;
                Ok(Vec::new())
            }
        }
    }

    /// Refuses, before anything is made, what [`CopyJob::prepare`] could not add to a mirror that stands.
    pub fn try_added(&self, session: &mut Session) -> Result<()> {
        let added = self.list_added(&record::list_tables(session)?);
        match self.mode {
            _ if added.is_empty() => Ok(()),
            SchemaMode::Dump => Addition::read(self, session, &added)?.try_out(session),
            SchemaMode::Existing => schema::require_existing(&added, session),
        }
    }

    fn list_added(&self, noted: &[TableCopy]) -> Vec<Table> {
        let noted: HashSet<&Name> = noted.iter().map(|copy| &copy.name).collect();
        let is_new = |table: &&Table| !noted.contains(&table.full_name());
        self.tables.iter().filter(is_new).cloned().collect()
    }

    /// Copies every table that is not copied yet, and builds its indexes as soon as its rows are there. Of the last one
    /// statistics may still be under way. The sessions are to look around in: those that copy are its own.
    pub fn copy_tables(
        &self,
        publisher: &mut Session,
        subscriber: &mut Session,
        prepared: &Prepared,
    ) -> Result<(CopyReport, Option<Analysis>)> {
        let post_data = list_post_data(subscriber, prepared)?;
        let works = self.plan(publisher, subscriber, &post_data)?;
        if subscriber.is_dry() {
            self.note(subscriber, &works)?;
            return Ok((CopyReport::default(), None));
        }
        let states = record::list_tables(subscriber)?;
        let states: HashMap<&Name, &TableCopy> = states.iter().map(|state| (&state.name, state)).collect();
        let raw = is_raw(subscriber)? && is_raw(publisher)?;
        let mut builder = None;
        if self.tables.iter().any(|table| table.partitioned) {
            let builder = builder.insert(Builder::new(self, self.subscriber.connect()?)?);
            builder.run_partitioned(&works)?;
        }
        self.tell_of_resumption(&states);
        let pool = Pool::new(self.stop);
        for (index, work) in works.iter().enumerate() {
            let table = work.transfer.table;
            let name = table.full_name();
            match states.get(&name) {
                None => return Err(unknown_table(table)),
                Some(state) if state.state != State::Copied => pool.push(work.weight, Task::Table(index)),
                Some(state) => push_indexes(&pool, &works, index, state.analyzed),
            }
        }
        let start = || Worker { pipe: None, builder: None };
        let throttle = Throttle::new(self.limits);
        let last = Mutex::new(None);
        let crew = Crew { job: self, pool: &pool, works: &works, raw, throttle: &throttle, last: &last };
        thread::scope(|scope| {
            let watch = throttle.watches_load().then(|| {
                scope.spawn(|| {
                    throttle.watch(self.publisher, &|reason| self.progress.paused(reason.as_deref()));
                })
            });
            let result = pool.run(self.subscriber, self.jobs, start, |worker, task| crew.work(worker, task));
            throttle.end();
            if let Some(watch) = &watch {
                watch.thread().unpark();
            }
            result
        })?;
        if let Some(mut builder) = builder {
            builder.analyze_partitioned(self.tables, &states)?;
        }
        Ok((report(subscriber)?, last.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Says what an earlier run has left, and what becomes of it.
    fn tell_of_resumption(&self, states: &HashMap<&Name, &TableCopy>) {
        let mut kept = 0;
        let mut again = Vec::new();
        let mut left = 0;
        for table in self.tables.iter().filter(|table| !table.partitioned) {
            match states.get(&table.full_name()).map(|state| state.state) {
                Some(State::Copied) => kept += 1,
                Some(State::Copying) => again.push(table.display()),
                _ => left += 1,
            }
        }
        if kept > 0 || !again.is_empty() {
            self.progress.resumed(kept, &again, left);
        }
    }

    /// How each table is to be copied.
    fn plan(
        &self,
        publisher: &mut Session,
        subscriber: &mut Session,
        post_data: &[PostStatement],
    ) -> Result<Vec<Work<'_>>> {
        let portable = objects::list_portable_types(publisher, subscriber.version)?;
        let portable_there = objects::list_portable_types(subscriber, publisher.version)?;
        let there = catalog::list_tables(subscriber)?;
        let there: HashMap<Name, &Table> = there.iter().map(|table| (table.full_name(), table)).collect();
        let copies = record::list_tables(subscriber)?;
        let of_state = |state: State| -> HashSet<Name> {
            copies.iter().filter(|copy| copy.state == state).map(|copy| copy.name.clone()).collect()
        };
        let (cut_off, untouched) = (of_state(State::Copying), of_state(State::Waiting));
        let mut statements: HashMap<(Kind, Name), Vec<PostStatement>> = HashMap::new();
        for statement in post_data.iter().filter(|statement| !statement.done) {
            if let Some(table) = &statement.table {
                statements.entry((statement.kind, table.clone())).or_default().push(statement.clone());
            }
        }
        let referenced = list_referenced(subscriber)?;
        let all_bytes: u64 = self.tables.iter().map(|table| table.data_bytes.cast_unsigned()).sum();
        let work = |table| {
            let key = Table::full_name(table);
            // In a dry run the tables are not there yet; they will be as they are here.
            let other = there.get(&key).copied().or(subscriber.is_dry().then_some(table));
            let binary = if subscriber.is_dry() && !there.contains_key(&key) {
                transfer::is_binary(table, other, &portable, &portable)
            } else {
                transfer::is_binary(table, other, &portable, &portable_there)
            };
            let into_partitioned = other.is_some_and(|other| other.partitioned);
            let transfer = Transfer { table, binary, emptying: Emptying::Nothing, into_partitioned };
            let emptying = match self.mode {
                // New files for a table that has nothing in them take longer than its rows.
                SchemaMode::Dump if transfer.is_small() && untouched.contains(&key) => Emptying::Nothing,
                SchemaMode::Dump if referenced.contains(&key) => Emptying::Delete,
                SchemaMode::Dump => Emptying::Truncate,
                SchemaMode::Existing if cut_off.contains(&key) => Emptying::Delete,
                SchemaMode::Existing => Emptying::Nothing,
            };
            let mut of_kind = |kind| statements.remove(&(kind, key.clone())).unwrap_or_default();
            let (indexes, constraints) = (of_kind(Kind::Index), of_kind(Kind::Constraint));
            let weight = table.data_bytes.cast_unsigned();
            Work {
                transfer: Transfer { emptying, ..transfer },
                indexes_left: AtomicUsize::new(indexes.len()),
                indexes,
                constraints,
                weight,
                cut: !table.part.through_root && transfer::is_dominant(weight, all_bytes, self.jobs),
            }
        };
        Ok(self.tables.iter().map(work).collect())
    }

    /// Notes what a dry run would do.
    fn note(&self, subscriber: &mut Session, works: &[Work]) -> Result<()> {
        let publisher = self.publisher.connect()?;
        for work in works {
            if !work.transfer.table.partitioned {
                publisher.note(work.transfer.out_statement(None));
                let emptying = work.transfer.emptying_statement();
                if !emptying.is_empty() {
                    subscriber.note(emptying);
                }
                subscriber.note(work.transfer.in_statement(work.transfer.emptying == Emptying::Truncate));
            }
            for statement in work.indexes.iter().chain(&work.constraints) {
                subscriber.change_script(&statement.statement)?;
            }
            subscriber.note(format!("analyze {}", work.transfer.table.quoted()));
        }
        Ok(())
    }
}

/// Nobody knows the encoding of the database's text; where that is so on both sides, none of it is to be looked at.
fn is_raw(session: &mut Session) -> Result<bool> {
    facts::read_database(session).map(|database| database.encoding == "SQL_ASCII")
}

/// Tables that TRUNCATE refuses, since foreign keys refer to them.
pub fn list_referenced(subscriber: &mut Session) -> Result<HashSet<Name>> {
    let rows = subscriber.query(&sql::flow::LIST_REFERENCED_TABLES, &[])?;
    Ok(rows.iter().map(|row| (row.get("schema_name"), row.get("table_name"))).collect())
}

/// What is copied by now.
pub fn report(subscriber: &mut Session) -> Result<CopyReport> {
    let mut report = CopyReport::default();
    let is_done = |copy: &&TableCopy| copy.state == State::Copied && copy.snapshot.is_some();
    for copy in record::list_tables(subscriber)?.iter().filter(is_done) {
        report.tables += 1;
        report.rows += copy.rows;
        report.bytes += copy.bytes;
    }
    Ok(report)
}

/// What completes the schema, as far as the record knows now; a dry run has only what it would record.
fn list_post_data(subscriber: &mut Session, prepared: &Prepared) -> Result<Vec<PostStatement>> {
    let noted = post_data::list(subscriber)?;
    Ok(if subscriber.is_dry() && noted.is_empty() { prepared.post_data.clone() } else { noted })
}

/// The selection has grown since the schema was made.
fn unknown_table(table: &Table) -> Error {
    Error::Refused {
        kind: "selection_changed",
        message: format!("table \"{}\" was not there when the mirror was begun", table.display()),
        detail: None,
        hint: "Exclude it under mirror.exclude, or run \"pgdetour clean\" and begin again.".into(),
    }
}

/// Queues what follows a table's rows.
fn push_indexes(pool: &Pool<Task>, works: &[Work], index: usize, analyzed: bool) {
    let work = &works[index];
    if work.transfer.table.partitioned {
        return;
    }
    for statement in &work.indexes {
        pool.push(work.weight, Task::Index(index, statement.clone()));
    }
    if work.indexes.is_empty() && !(analyzed && work.constraints.is_empty()) {
        pool.push(work.weight, Task::Complete(index));
    }
}

/// What one worker keeps between tasks.
struct Worker<'a> {
    pipe: Option<Pipe<'a>>,
    builder: Option<Builder<'a>>,
}

/// What is in `place`, opened where it is first needed.
fn opened<T>(place: &mut Option<T>, open: impl FnOnce() -> Result<T>) -> Result<&mut T> {
    match place {
        Some(open) => Ok(open),
        none => Ok(none.insert(open()?)),
    }
}

/// What all workers share.
struct Crew<'a> {
    job: &'a CopyJob<'a>,
    pool: &'a Pool<'a, Task>,
    works: &'a [Work<'a>],
    raw: bool,
    throttle: &'a Throttle,
    /// Statistics of the table that was complete last.
    last: &'a Mutex<Option<Analysis>>,
}

impl<'a> Crew<'a> {
    fn work(&self, worker: &mut Worker<'a>, task: Task) -> Result<()> {
        match task {
            Task::Table(index) => self.copy_table(worker, index),
            Task::Range(index, shared, range) => self.copy_range(worker, index, &shared, range),
            Task::Index(index, statement) => {
                self.builder(worker)?.run_in(self.pool, &statement)?;
                if self.works[index].indexes_left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.pool.push(self.works[index].weight, Task::Complete(index));
                }
                Ok(())
            }
            Task::Complete(index) => {
                let work = &self.works[index];
                let builder = self.builder(worker)?;
                for statement in &work.constraints {
                    builder.run_in(self.pool, statement)?;
                }
                let table = work.transfer.table;
                if !self.pool.has_one_task() || builder.is_analyzed_with_root(table) {
                    return builder.analyze(self.pool, table);
                }
                let Some(builder) = worker.builder.take() else { return Ok(()) };
                let analysis = Analysis::start(builder, table)?;
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(analysis);
                Ok(())
            }
        }
    }

    fn pipe<'w>(&self, worker: &'w mut Worker<'a>) -> Result<&'w mut Pipe<'a>> {
        opened(&mut worker.pipe, || Pipe::open(self.job.publisher, self.job.subscriber, self.raw))
    }

    fn builder<'w>(&self, worker: &'w mut Worker<'a>) -> Result<&'w mut Builder<'a>> {
        opened(&mut worker.builder, || Builder::new(self.job, self.job.subscriber.connect()?))
    }

    /// Tells of progress, and ends the copy when work is to end.
    fn progress<'p>(&'p self, name: &'p str) -> impl FnMut(u64) -> Result<()> + 'p {
        let mut told = 0;
        move |bytes| {
            let more = bytes.saturating_sub(told);
            if more > 0 {
                self.job.progress.bytes_copied(name, more);
                told = bytes;
            }
            self.pool.go_on()?;
            self.throttle.take(more, &|| self.pool.go_on())
        }
    }

    fn copy_table(&self, worker: &mut Worker<'a>, index: usize) -> Result<()> {
        let work = &self.works[index];
        let name = work.transfer.table.display();
        self.job.progress.table_started(&name, work.weight);
        if !work.cut {
            let copied = self.pipe(worker)?.copy_whole(&work.transfer, &mut self.progress(&name))?;
            self.job.progress.table_copied(&name, copied.rows, copied.bytes);
            if !(work.transfer.is_small() && self.builder(worker)?.complete_small(self.pool, work)?) {
                push_indexes(self.pool, self.works, index, false);
            }
            return Ok(());
        }
        let ranges = work.transfer.ranges(self.job.jobs);
        let mut go_on = || self.pool.go_on();
        let shared = SharedRead::open(self.job.publisher, &work.transfer, ranges.len(), &mut go_on)?;
        self.pipe(worker)?.begin_ranges(&work.transfer, &shared, &mut self.progress(&name))?;
        let shared = Arc::new(shared);
        for range in ranges {
            self.pool.push(work.weight, Task::Range(index, Arc::clone(&shared), range));
        }
        Ok(())
    }

    fn copy_range(
        &self,
        worker: &mut Worker<'a>,
        index: usize,
        shared: &SharedRead,
        range: Range,
    ) -> Result<()> {
        let work = &self.works[index];
        let name = work.transfer.table.display();
        let pipe = self.pipe(worker)?;
        let copied = pipe.copy_range(&work.transfer, shared, range, &mut self.progress(&name))?;
        if shared.finish_range(copied) {
            let copied = pipe.finish_ranges(&work.transfer, shared)?;
            self.job.progress.table_copied(&name, copied.rows, copied.bytes);
            push_indexes(self.pool, self.works, index, false);
        }
        Ok(())
    }
}
