//! Compares tables with what they are the image of on the other side, through the mapping: hashed by the servers in ranges of
//! pages, several at once, and row by row where hashes differ.

pub mod carried;
pub mod comparison;
pub mod constraints;
pub mod pair;
mod progress;
pub mod repair;
mod rows;
mod shape;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::rows::{Keyed, Range};
pub use comparison::{Comparison, DifferentRow, Failure};
pub use pair::Pair;
pub use progress::Partial;
pub use rows::Sample;

use self::carried::What;
use self::progress::Progress;
use self::snapshot::Snapshots;
use crate::error::Result;
use crate::flow::copy::pool::Pool;
use crate::pg::{Server, Session};

/// Buckets that are read row by row at the same time: what bounds memory where much differs.
const SUSPECTS_AT_ONCE: usize = 64;
/// How often rows that differ are read before they count as still changing.
const ROUNDS: usize = 10;
/// In how many readings, each after a settled flow, a row has to be the same two versions to be a difference.
///
/// Two would not do: the sides are not read at the same instant, so that a row which was new at the first reading and is
/// deleted during the second one is on the source alone both times. A row that is the same version in three is unchanged
/// from before the second reading of the other side until after it.
const READINGS: usize = 3;
/// How many characters are shown of a row that has no key.
const SHOWN: usize = 200;
/// How many differing rows are listed by their key.
const LISTED: usize = 20;

/// How tables are compared.
pub struct Job<'a> {
    /// The source.
    pub source: &'a Server,
    /// The target.
    pub target: &'a Server,
    /// The tables.
    pub pairs: &'a [Pair],
    /// Sessions on each side that read at the same time.
    pub jobs: usize,
    /// Ends the work early.
    pub stop: &'a AtomicBool,
    /// Makes sure that what was written before is on both sides (a marker that has arrived), or does nothing where no flow runs.
    pub settle: &'a (dyn Fn(&mut Session, &mut Session) -> Result<()> + Sync),
    /// Told now and then of what is hashed of a large table.
    pub note: &'a (dyn Fn(&Pair, &Partial) -> Result<()> + Sync),
    /// Told of each pair as it is done.
    pub done: &'a (dyn Fn(&Pair, &Comparison) -> Result<()> + Sync),
}

impl<'a> Job<'a> {
    /// One session on each side, and nobody who is told of anything: for tables that are made equal one after the other.
    pub fn of_one(
        source: &'a Server,
        target: &'a Server,
        pairs: &'a [Pair],
        stop: &'a AtomicBool,
        settle: &'a (dyn Fn(&mut Session, &mut Session) -> Result<()> + Sync),
    ) -> Job<'a> {
        Job { source, target, pairs, jobs: 1, stop, settle, note: &|_, _| Ok(()), done: &|_, _| Ok(()) }
    }
}

/// Columns of a row as text.
pub type Values = Vec<Option<String>>;

/// The key as one text → the row, of rows that differ.
pub type Differences = BTreeMap<String, Difference>;

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The columns of its key as one text.
    pub text: String,
    /// The columns of its key as text.
    pub key: Values,
    /// Hash of the row on the source, if it is there.
    pub source: Option<String>,
    /// Hash of the row on the target, if it is there.
    pub target: Option<String>,
    /// What tells the row from another one with the same values, on the source and on the target.
    versions: (Option<i128>, Option<i128>),
}

enum Task {
    /// Hash a range of one part of a table: of the source's, or of one of those that it is the image of.
    Hash { pair: usize, part: usize, range: Option<Range> },
    /// Read the buckets whose hashes differ.
    Suspects(usize),
}

impl Task {
    /// The pair that it is about.
    fn pair(&self) -> usize {
        match self {
            Task::Hash { pair, .. } | Task::Suspects(pair) => *pair,
        }
    }
}

/// Bucket → rows and sum of their hashes.
type Buckets = HashMap<i32, (i64, i128)>;

/// Takes more rows into their bucket.
fn add(buckets: &mut Buckets, (bucket, (rows, hash)): (i32, (i64, i128))) {
    let sum = buckets.entry(bucket).or_default();
    sum.0 += rows;
    sum.1 += hash;
}

#[derive(Default)]
struct Worker {
    source: Option<Session>,
    target: Option<Session>,
}

impl Worker {
    fn session<'w>(slot: &'w mut Option<Session>, server: &Server) -> Result<&'w mut Session> {
        match slot {
            Some(session) => Ok(session),
            None => Ok(slot.insert(server.connect()?)),
        }
    }

    fn both(&mut self, job: &Job) -> Result<(&mut Session, &mut Session)> {
        let source = Worker::session(&mut self.source, job.source)?;
        let target = Worker::session(&mut self.target, job.target)?;
        Ok((source, target))
    }
}

/// How far a pair is hashed, and what it is read under meanwhile.
struct State {
    progress: Progress,
    /// As soon as a piece of it is read, until all are.
    snapshots: Option<Arc<Snapshots>>,
}

/// Compares all pairs; what is found about each, in their order. One that cannot be compared does not keep the others from it.
pub fn compare_tables(job: &Job) -> Result<Vec<Comparison>> {
    let pool = Pool::new(job.stop);
    let mut states = Vec::new();
    for (index, pair) in job.pairs.iter().enumerate() {
        // Both sides of a range one after the other, so that what a run that is interrupted leaves of them is of about one time.
        let (progress, left) = Progress::begin(pair, job.jobs);
        let is_read = left.is_empty();
        states.push(Mutex::new(State { progress, snapshots: None }));
        for (part, range) in left {
            pool.push(pair.bytes(), Task::Hash { pair: index, part, range });
        }
        if is_read {
            pool.push(u64::MAX, Task::Suspects(index));
        }
    }
    let results: Vec<Mutex<Comparison>> = job.pairs.iter().map(|_| Mutex::default()).collect();
    let result_of = |index: usize| results[index].lock().unwrap_or_else(PoisonError::into_inner);
    let state_of =
        |index: usize| -> MutexGuard<State> { states[index].lock().unwrap_or_else(PoisonError::into_inner) };
    pool.run(job.target, job.jobs, Worker::default, |worker, task| {
        let index = task.pair();
        if result_of(index).failure.is_some() {
            return Ok(());
        }
        let pair = &job.pairs[index];
        let (source, target) = worker.both(job)?;
        match task {
            Task::Hash { part, range, .. } => {
                let snapshots = state_of(index).snapshots(job)?;
                let found = match pair.hash_buckets(part, range, snapshots.of(part), (source, target)) {
                    Ok(found) => found,
                    Err(error) => {
                        *result_of(index) = Comparison::failed(pair.name(), error)?;
                        state_of(index).snapshots = None;
                        return Ok(());
                    }
                };
                let mut state = state_of(index);
                if state.progress.take(part, range, found) {
                    state.snapshots = None;
                    pool.push(u64::MAX, Task::Suspects(index));
                } else if let Some(partial) = state.progress.due(pair.buckets()) {
                    (job.note)(pair, &partial)?;
                }
            }
            Task::Suspects(_) => {
                let progress = std::mem::take(&mut state_of(index).progress);
                let mut go_on = || pool.go_on();
                let result = finish(job, pair, &progress, (source, target), &mut go_on)
                    .or_else(|error| Comparison::failed(pair.name(), error))?;
                if result.failure.is_none() {
                    (job.done)(pair, &result)?;
                }
                *result_of(index) = result;
            }
        }
        Ok(())
    })?;
    Ok(results
        .into_iter()
        .map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect())
}

impl State {
    /// What its pieces are read under, taken with the first one.
    fn snapshots(&mut self, job: &Job) -> Result<Arc<Snapshots>> {
        if let Some(snapshots) = &self.snapshots {
            return Ok(Arc::clone(snapshots));
        }
        let taken = Arc::new(Snapshots::take(job, self.progress.pieces())?);
        Ok(Arc::clone(self.snapshots.insert(taken)))
    }
}

/// Reads the rows of the buckets that differ, and tells which of them do.
fn finish(
    job: &Job,
    pair: &Pair,
    progress: &Progress,
    (source, target): (&mut Session, &mut Session),
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Comparison> {
    let mut result = Comparison {
        table: pair.name(),
        rows_source: progress.source.values().map(|bucket| bucket.0).sum(),
        rows_target: progress.target.values().map(|bucket| bucket.0).sum(),
        equal: true,
        ..Comparison::default()
    };
    let suspects = pair.suspects(&progress.source, &progress.target);
    for suspects in suspects.chunks(SUSPECTS_AT_ONCE) {
        go_on()?;
        let (lasting, changing) = confirm(job, pair, suspects, source, target)?;
        result.changing += changing;
        result.add(&lasting);
        let room = LISTED.saturating_sub(result.rows.len());
        let first: Vec<&Difference> = lasting.values().take(room).collect();
        result.rows.extend(describe(pair, &first, source, target)?);
    }
    if pair.is_outside {
        // Those that the source alone has are not looked at.
        result.rows_source = result.rows_target - result.missing_on_source as i64;
    }
    Ok(result)
}

/// The rows in these buckets that several readings, with a settled flow before each, show as the same two versions, and
/// how many kept changing. What was equal once is done with: rows that begin to change later must not keep the comparison
/// going.
pub fn confirm(
    job: &Job,
    pair: &Pair,
    suspects: &[i32],
    source: &mut Session,
    target: &mut Session,
) -> Result<(Differences, usize)> {
    // With the number of readings that have shown the row as it is in the last one.
    let mut seen: BTreeMap<String, (Difference, usize)> = BTreeMap::new();
    for round in 0..ROUNDS {
        (job.settle)(source, target)?;
        let mut earlier = std::mem::take(&mut seen);
        for (key, difference) in differences(pair, suspects, source, target)? {
            let readings = match earlier.remove(&key) {
                Some((before, readings)) if before == difference => readings + 1,
                None if round > 0 => continue,
                _ => 1,
            };
            seen.insert(key, (difference, readings));
        }
        if seen.values().all(|(_, readings)| *readings >= READINGS) {
            break;
        }
    }
    let found = seen.len();
    let lasting = seen.into_iter().filter(|(_, (_, readings))| *readings >= READINGS);
    let lasting: Differences = lasting.map(|(key, (difference, _))| (key, difference)).collect();
    let changing = found - lasting.len();
    Ok((lasting, changing))
}

/// Reads both sides, at the same time as far as the mapping allows, so that little is written between the two snapshots.
fn differences(
    pair: &Pair,
    suspects: &[i32],
    source: &mut Session,
    target: &mut Session,
) -> Result<Differences> {
    let (on_source, mut on_target) = pair.hash_rows(suspects, source, target)?;
    let mut found = Differences::new();
    for (text, row) in on_source {
        let other = on_target.remove(&text);
        if pair.is_different(&row, other.as_ref()) {
            found.insert(text.clone(), Difference::new(text, Some(row), other));
        }
    }
    for (text, row) in on_target {
        found.insert(text.clone(), Difference::new(text, None, Some(row)));
    }
    Ok(found)
}

impl Difference {
    fn new(text: String, source: Option<Keyed>, target: Option<Keyed>) -> Difference {
        let version = |row: &Option<Keyed>| row.as_ref().map(|row| row.version);
        let versions = (version(&source), version(&target));
        let hash = |row: &Option<Keyed>| row.as_ref().map(|row| row.hash.clone());
        let (source_hash, target_hash) = (hash(&source), hash(&target));
        let key = source.or(target).map(|row| row.key).unwrap_or_default();
        Difference { text, key, source: source_hash, target: target_hash, versions }
    }
}

/// The beginning of a row, which may be large.
fn shorten(row: &str) -> String {
    match row.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &row[..end]),
        None => row.to_owned(),
    }
}

/// Each row by its key, and which of its columns differ.
fn describe(
    pair: &Pair,
    differences: &[&Difference],
    source: &mut Session,
    target: &mut Session,
) -> Result<Vec<DifferentRow>> {
    let is_changed = |difference: &&&Difference| difference.source.is_some() && difference.target.is_some();
    let changed: Vec<&Difference> = differences.iter().filter(is_changed).copied().collect();
    let old = if pair.shape.key.is_empty() {
        HashMap::new()
    } else {
        pair.read_old(&changed, What::Hashes, source, target)?
    };
    let mut rows = Vec::new();
    for difference in differences {
        let mut key: BTreeMap<String, Option<String>> =
            pair.shape.key.iter().cloned().zip(difference.key.iter().cloned()).collect();
        if pair.shape.key.is_empty() {
            // Without a key, the row itself is all that there is to tell it by.
            key.insert("row".to_owned(), difference.key.first().cloned().flatten().map(|row| shorten(&row)));
        }
        let state = match (&difference.source, &difference.target) {
            (None, _) => "missing_on_source",
            (_, None) => "missing_on_target",
            _ => "different",
        };
        let mut columns = Vec::new();
        if let Some((_, old)) = old.get(&difference.text)
            && let Some(new) = pair.new.hash_columns(source, &difference.key)?
        {
            let unequal = new.iter().zip(old).zip(&pair.shape.columns).filter(|((new, old), _)| new != old);
            columns.extend(unequal.map(|(_, column)| column.clone()));
        }
        rows.push(DifferentRow { key, state: state.to_owned(), columns });
    }
    Ok(rows)
}
