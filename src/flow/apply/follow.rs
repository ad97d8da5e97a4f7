//! Applies a slot's changes to the subscriber until a marker has arrived or it is told to stop.

mod run;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::PgLsn;

use self::run::Run;
use super::pace::Rates;
use super::resume;
use crate::error::{Error, Result};
use crate::flow::mapping::{Mapping, TableName};
use crate::flow::source::ChangeSource;
use crate::flow::source::binary::is_misfit;
use crate::flow::{FlowName, Snapshot};
use crate::pg::Server;
use crate::units::Lag;

/// WAL in bytes from which on a backlog is worth to be read in pieces.
pub const BACKLOG_BYTES: u64 = 16 << 20;
/// Changes in bytes that are applied at once, unless told otherwise.
pub const BATCH_BYTES: usize = 8 << 20;
/// How often the stop flag and the deadline are looked at while nothing comes.
const GLANCE: Duration = Duration::from_millis(10);

/// Everything that a flow is.
#[derive(Clone)]
pub struct Flow {
    /// Which way.
    pub name: FlowName,
    /// The detour's uuid: progress of another one does not count.
    pub detour: String,
    /// Where changes come from.
    pub publisher: Server,
    /// Where they go.
    pub subscriber: Server,
    /// What records them there.
    pub source: ChangeSource,
    /// Where each table's rows go.
    pub mapping: Mapping,
    /// By schema and table of the publisher: what the copy of a table holds already, so that it is not applied again.
    pub snapshots: HashMap<(String, String), Snapshot>,
    /// Tables of the publisher whose changes, though they are recorded, are passed over, since the configuration leaves them out.
    pub passed_over: HashSet<TableName>,
    /// What is left out of what was replicated to the publisher from elsewhere.
    pub left_out: Origins,
    /// Changes in bytes that are applied at once.
    pub batch_bytes: usize,
    /// From so many bytes of WAL on, what a slot has gathered is read in pieces before it is streamed; none: always streamed, since the
    /// change to the stream takes a moment that nobody can wait for.
    pub backlog: Option<u64>,
    /// Set aside what does not fit, instead of stopping there.
    pub quarantine: bool,
}

/// Replication origins, whose transactions came to a server from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// None of them.
    None,
    /// The one of this name.
    Named(String),
    /// Whichever there are.
    All,
}

impl Origins {
    /// Whether one is among them.
    pub fn has(&self, origin: &str) -> bool {
        match self {
            Origins::None => false,
            Origins::Named(name) => name == origin,
            Origins::All => true,
        }
    }
}

/// When to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// When the flow is no further behind; or when told to stop.
    CaughtUp(Lag),
    /// When this marker, a uuid's text, is applied and committed; or when told to stop.
    Marker(String),
    /// When told to stop.
    Stopped,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Transactions applied and committed.
    pub transactions: u64,
    /// Row changes and TRUNCATEs in them that were applied.
    pub changes: u64,
    /// Changes that did not fit and were set aside.
    pub conflicts: u64,
    /// Size of what was read from the stream, in bytes.
    pub bytes: u64,
    /// Everything before it on the publisher is applied and committed.
    pub applied_lsn: u64,
    /// WAL behind it on the publisher, in bytes; that of other databases counts.
    pub lag_bytes: u64,
    /// How long ago the publisher committed the last transaction that is applied; zero when nothing waits to be applied, none
    /// before that can be told.
    pub lag_time: Option<Duration>,
    /// How fast it goes, once that can be told.
    pub rates: Option<Rates>,
}

impl Progress {
    /// The same, where another run had come so far before.
    pub fn after(&self, before: &Progress) -> Progress {
        Progress {
            transactions: before.transactions + self.transactions,
            changes: before.changes + self.changes,
            conflicts: before.conflicts + self.conflicts,
            bytes: before.bytes + self.bytes,
            ..*self
        }
    }
}

/// What a run has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "applied_lsn is the name in reports")]
pub struct Applied {
    /// Transactions applied and committed.
    pub transactions: u64,
    /// Row changes and TRUNCATEs in them that were applied.
    pub changes: u64,
    /// Changes that did not fit and were set aside; those that wait behind an earlier one of their row not counted.
    pub conflicts: u64,
    /// Transactions left out: by their origin, or temporary.
    pub skipped: u64,
    /// Size of what was read from the stream, in bytes.
    pub bytes: u64,
    /// Everything before it on the publisher is applied and committed; the slot has been moved there.
    pub applied_lsn: PgLsn,
    /// WAL behind it on the publisher, in bytes; that of other databases counts.
    pub lag_bytes: u64,
    /// What was waited for has come: the marker, or a lag that is small enough.
    pub reached: bool,
    /// Triggers and foreign keys of the subscriber did not fire; if they do, tables are applied in the order of foreign keys.
    pub replica_role: bool,
    /// How long the run took.
    pub time: Duration,
    /// How far behind it was in the end, in time, where that can be told.
    pub lag_time: Option<Duration>,
    /// How fast it went lately; none for a run that was too short to tell.
    pub rates: Option<Rates>,
}

impl Applied {
    /// Nothing, and nothing was to be done.
    pub fn nothing() -> Applied {
        Applied {
            transactions: 0,
            changes: 0,
            conflicts: 0,
            skipped: 0,
            bytes: 0,
            applied_lsn: PgLsn::from(0),
            lag_bytes: 0,
            reached: true,
            replica_role: true,
            time: Duration::ZERO,
            lag_time: Some(Duration::ZERO),
            rates: None,
        }
    }

    /// What a run has come to that failed after `progress`.
    pub fn until_failure(progress: &Progress) -> Applied {
        Applied {
            transactions: progress.transactions,
            changes: progress.changes,
            conflicts: progress.conflicts,
            bytes: progress.bytes,
            applied_lsn: progress.applied_lsn.into(),
            lag_bytes: progress.lag_bytes,
            lag_time: progress.lag_time,
            rates: progress.rates,
            reached: false,
            ..Applied::nothing()
        }
    }
}

/// Applies changes until `until`, or until `stop` is set, which ends at a transaction's end. `budget` bounds the whole run.
/// Can be called again after any failure, and goes on where the last commit was: each transaction is applied exactly once.
/// When it returns well, the slot is at the applied position and free; when not, `report` has been told how far it has come.
pub fn apply_until(
    flow: &Flow,
    until: &Until,
    stop: &AtomicBool,
    budget: Option<Duration>,
    report: &mut dyn FnMut(&Progress),
) -> Result<Applied> {
    if flow.publisher.plan.is_dry() {
        let (name, source, subscriber) = (flow.name, flow.source.describe(), flow.subscriber.place);
        let action = format!("apply the changes of the {name} flow, from {source}, to {subscriber}");
        flow.publisher.plan.note(flow.publisher.place.name(), action);
        return Ok(Applied::nothing());
    }
    let began = Instant::now();
    let (mut done, mut attempt) = (Progress::default(), 0);
    let mut binary = true;
    loop {
        let left = budget.map(|budget| budget.saturating_sub(began.elapsed()));
        let before = done.transactions;
        let error = match apply_once(flow, until, stop, left, report, &mut done, binary) {
            Ok(applied) => return Ok(Applied { time: began.elapsed(), ..applied }),
            // All that was applied is committed: it goes on behind that, with values as text.
            Err(error) if binary && is_misfit(&error) => {
                binary = false;
                continue;
            }
            Err(error) => error,
        };
        attempt = if done.transactions > before || goes_on_waiting(until, &error) { 1 } else { attempt + 1 };
        let is_over = budget.is_some_and(|budget| began.elapsed() >= budget);
        let may_succeed = resume::may_succeed_later(&error) || goes_on_waiting(until, &error);
        if is_over || attempt == resume::ATTEMPTS || !may_succeed {
            return Err(error);
        }
        let deadline = Instant::now() + resume::pause(attempt);
        while Instant::now() < deadline {
            if stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Whether a lock that another session has held for long is still waited for, since nobody waits for the flow itself to end.
fn goes_on_waiting(until: &Until, error: &Error) -> bool {
    *until == Until::Stopped && error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
}

/// One attempt, which ends with the first failure; `done` goes on from what earlier ones have done.
pub(super) fn apply_once(
    flow: &Flow,
    until: &Until,
    stop: &AtomicBool,
    budget: Option<Duration>,
    report: &mut dyn FnMut(&Progress),
    done: &mut Progress,
    binary: bool,
) -> Result<Applied> {
    let mut publisher = flow.publisher.connect()?;
    let mut run = Run::begin(flow, &mut publisher, binary)?;
    run.progress = *done;
    let mut reached = run.go_on(until, stop, budget, report);
    // What is being applied when something else fails still counts.
    if reached.is_err() {
        let settled = run.settle();
        report(&run.progress);
        reached = reached.and_then(|reached| settled.map(|()| reached));
    }
    *done = run.progress;
    run.end(reached?).inspect_err(|_| report(done))
}
