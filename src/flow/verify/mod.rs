//! Compares tables with their images on the other side, through the mapping: hashed by the servers in ranges of pages,
//! several at once, and row by row where hashes differ.

pub mod carried;
pub mod compare;
pub mod repair;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

pub use rows::{Range, Rows, Sample};

use self::compare::{Comparison, DifferentRow};
use crate::error::Result;
use crate::flow::copy::pool::Pool;
use crate::flow::mapping::TableRule;
use crate::pg::{Server, Session};

/// Rows that share a bucket are hashed together; a bucket whose hashes differ is read row by row.
const ROWS_PER_BUCKET: f64 = 4000.0;
/// Buckets that are read row by row at the same time: what bounds memory where much differs.
const SUSPECTS_AT_ONCE: usize = 64;
/// How often rows that differ are read again before they count as still changing.
const ROUNDS: usize = 10;
/// How many differing rows are listed by their key.
const LISTED: usize = 20;

/// One table and its image, and how each is read.
pub struct Pair {
    /// In the direction of replay, target to source.
    pub rule: Arc<TableRule>,
    /// How the source's table is read.
    pub new: Rows,
    /// How the target's table is read, through the mapping.
    pub old: Rows,
    /// Rows of the larger one, as the planner estimates.
    pub rows_estimate: f64,
}

impl Pair {
    /// How many buckets its rows are sorted into.
    pub fn buckets(&self) -> i32 {
        (self.rows_estimate / ROWS_PER_BUCKET).ceil().clamp(1.0, 65_536.0) as i32
    }
}

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
    /// Told of each table as it is done.
    pub done: &'a (dyn Fn(&Comparison) -> Result<()> + Sync),
}

/// Key → its parts, and the hashes of the row on the source and on the target, of rows that differ.
pub type Differences = BTreeMap<String, Difference>;

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The columns of its key as text.
    pub key: Vec<Option<String>>,
    /// Hash of the row on the source, if it is there.
    pub source: Option<String>,
    /// Hash of the row on the target, if it is there.
    pub target: Option<String>,
}

enum Task {
    /// Hash a range of a table: on the source, or on the target.
    Hash { pair: usize, on_source: bool, range: Option<Range> },
    /// Read the buckets whose hashes differ.
    Suspects(usize),
}

/// Bucket → rows and sum of their hashes.
type Buckets = HashMap<i32, (i64, i128)>;

#[derive(Default)]
struct Progress {
    left: usize,
    source: Buckets,
    target: Buckets,
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

/// Compares all pairs; what is found about each, in their order.
pub fn compare_tables(job: &Job) -> Result<Vec<Comparison>> {
    let pool = Pool::new(job.stop);
    let mut states = Vec::new();
    for (index, pair) in job.pairs.iter().enumerate() {
        let mut progress = Progress::default();
        // Both sides of a range one after the other, so that little is written between.
        let sides = [(true, &pair.new), (false, &pair.old)];
        let ranges: Vec<(bool, Option<Range>)> = sides
            .iter()
            .flat_map(|(on_source, rows)| rows.ranges(job.jobs).into_iter().map(|range| (*on_source, range)))
            .collect();
        progress.left = ranges.len();
        states.push(Mutex::new(progress));
        for (on_source, range) in ranges {
            pool.push(pair.new.bytes.max(pair.old.bytes), Task::Hash { pair: index, on_source, range });
        }
    }
    let results: Vec<Mutex<Comparison>> = job.pairs.iter().map(|_| Mutex::default()).collect();
    pool.run(job.target, job.jobs, Worker::default, |worker, task| match task {
        Task::Hash { pair: index, on_source, range } => {
            let pair = &job.pairs[index];
            let found = if on_source {
                let session = Worker::session(&mut worker.source, job.source)?;
                pair.new.hash_buckets(session, pair.buckets(), range)?
            } else {
                let session = Worker::session(&mut worker.target, job.target)?;
                pair.old.hash_buckets(session, pair.buckets(), range)?
            };
            let mut progress = states[index].lock().unwrap_or_else(PoisonError::into_inner);
            let progress = &mut *progress;
            let side = if on_source { &mut progress.source } else { &mut progress.target };
            for (bucket, (rows, hash)) in found {
                let sum = side.entry(bucket).or_default();
                sum.0 += rows;
                sum.1 += hash;
            }
            progress.left -= 1;
            if progress.left == 0 {
                pool.push(u64::MAX, Task::Suspects(index));
            }
            Ok(())
        }
        Task::Suspects(index) => {
            let progress = std::mem::take(&mut *states[index].lock().unwrap_or_else(PoisonError::into_inner));
            let (source, target) = worker.both(job)?;
            let mut go_on = || pool.go_on();
            let result = finish(job, &job.pairs[index], &progress, (source, target), &mut go_on)?;
            (job.done)(&result)?;
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = result;
            Ok(())
        }
    })?;
    Ok(results
        .into_iter()
        .map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect())
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
        table: pair.rule.to.to_string(),
        rows_source: progress.source.values().map(|bucket| bucket.0).sum(),
        rows_target: progress.target.values().map(|bucket| bucket.0).sum(),
        equal: true,
        ..Comparison::default()
    };
    let differs = |bucket: &i32| progress.source.get(bucket) != progress.target.get(bucket);
    let suspects: Vec<i32> = (0..pair.buckets()).filter(differs).collect();
    for suspects in suspects.chunks(SUSPECTS_AT_ONCE) {
        go_on()?;
        let (lasting, changing) = confirm(job, pair, suspects, source, target)?;
        result.changing += changing;
        result.add(&lasting);
        let room = LISTED.saturating_sub(result.rows.len());
        for difference in lasting.values().take(room) {
            result.rows.push(describe(pair, difference, source, target)?);
        }
    }
    Ok(result)
}

/// The rows in these buckets that two readings, with a settled flow between them, show as the same two rows, and how many
/// kept changing. What was equal once is done with: rows that begin to change later must not keep the comparison going.
pub fn confirm(
    job: &Job,
    pair: &Pair,
    suspects: &[i32],
    source: &mut Session,
    target: &mut Session,
) -> Result<(Differences, usize)> {
    let mut earlier = Differences::new();
    let mut lasting = Differences::new();
    let mut changing = 0;
    for round in 0..ROUNDS {
        (job.settle)(source, target)?;
        let mut now = differences(pair, suspects, source, target)?;
        if round > 0 {
            now.retain(|key, _| earlier.contains_key(key));
        }
        lasting = now.clone();
        lasting.retain(|key, difference| earlier.get(key) == Some(difference));
        changing = now.len() - lasting.len();
        if changing == 0 {
            break;
        }
        earlier = now;
    }
    Ok((lasting, changing))
}

impl Comparison {
    /// Counts further differences.
    fn add(&mut self, lasting: &Differences) {
        let missing_on_source = lasting.values().filter(|row| row.source.is_none()).count();
        let missing_on_target = lasting.values().filter(|row| row.target.is_none()).count();
        self.missing_on_source += missing_on_source;
        self.missing_on_target += missing_on_target;
        self.different += lasting.len() - missing_on_source - missing_on_target;
        let room = LISTED.saturating_sub(self.keys.len());
        self.keys.extend(lasting.keys().take(room).cloned());
        self.equal &= lasting.is_empty();
    }
}

/// Reads both sides at the same time, so that little is written between the two snapshots.
fn differences(
    pair: &Pair,
    suspects: &[i32],
    source: &mut Session,
    target: &mut Session,
) -> Result<Differences> {
    let (on_source, mut on_target) = std::thread::scope(|scope| {
        let source = scope.spawn(|| pair.new.hash_rows(source, pair.buckets(), suspects));
        let target = pair.old.hash_rows(target, pair.buckets(), suspects);
        let source = source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, crate::error::Error>((source?, target?))
    })?;
    let mut found = Differences::new();
    for (text, (key, hash)) in on_source {
        let other = on_target.remove(&text).map(|(_, hash)| hash);
        if other.as_ref() != Some(&hash) {
            found.insert(text, Difference { key, source: Some(hash), target: other });
        }
    }
    for (text, (key, hash)) in on_target {
        found.insert(text, Difference { key, source: None, target: Some(hash) });
    }
    Ok(found)
}

/// The row by its key, and which of its columns differ.
fn describe(
    pair: &Pair,
    difference: &Difference,
    source: &mut Session,
    target: &mut Session,
) -> Result<DifferentRow> {
    let names = pair.rule.key.iter().map(|column| column.name.clone());
    let key: BTreeMap<_, _> = names.zip(difference.key.iter().cloned()).collect();
    let state = match (&difference.source, &difference.target) {
        (None, _) => "missing_on_source",
        (_, None) => "missing_on_target",
        _ => "different",
    };
    let mut columns = Vec::new();
    if state == "different" && !pair.rule.key.is_empty() {
        let new = pair.new.hash_columns(source, &difference.key)?;
        let old = pair.old.hash_columns(target, &difference.key)?;
        if let (Some(new), Some(old)) = (new, old) {
            let unequal = new.iter().zip(&old).zip(&pair.rule.columns).filter(|((new, old), _)| new != old);
            columns.extend(unequal.map(|(_, column)| column.name.clone()));
        }
    }
    Ok(DifferentRow { key, state: state.to_owned(), columns })
}
