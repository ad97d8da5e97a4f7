//! Gathers what the source gives into batches, has them applied, and tells both ends how far it is.

mod binding;
mod moving;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};
use postgres::types::PgLsn;

use self::binding::Binding;
use self::moving::{Leaving, Moves};
use super::{Applied, Flow, GLANCE, Progress, Until};
use crate::error::{Error, Result};
use crate::flow::apply::batch::{self, Planned, Ranks, Shape, Transaction, Work};
use crate::flow::apply::pace::{Pace, Sample};
use crate::flow::apply::quarantine::Quarantine;
use crate::flow::apply::worker::{Job, Worker};
use crate::flow::apply::{Applier, resume};
use crate::flow::mapping::Mapping;
use crate::flow::source::binary::Portable;
use crate::flow::source::change::{Change, Relation, RowChange};
use crate::flow::source::reader::{Chunk, Item, Reader};
use crate::flow::source::slot;
use crate::flow::{FlowName, Xid, marker};
use crate::pg::{Session, record};
use crate::sql;
use crate::units::Lag;

/// The most that a batch grows to where the subscriber is far away.
const LARGEST_BATCH: usize = 16 << 20;
/// A round trip that takes less is no reason for larger batches.
const SHORT_TRIP: Duration = Duration::from_millis(5);
/// How long a batch waits for more when the publisher has nothing to send: not at all when all is read, for a while when it is behind.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(3), Duration::from_millis(100));
/// WAL in bytes behind the last applied position from which on there must be more to come.
const FAR_BEHIND: u64 = 4 << 20;
/// How long changes may wait for more of them.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often the publisher is told what is applied.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);
/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// A transaction that is being read.
struct Open {
    xid: Xid,
    transaction: Transaction,
    /// Nothing of it is applied.
    skip: bool,
    /// A part of it is applied, and not committed.
    is_part_applied: bool,
    bytes: usize,
    /// The last change of a partitioned table, where that took a row out of a partition.
    leaving: Option<Leaving>,
}

/// What becomes true when a batch is applied.
#[derive(Default, Clone, Copy)]
struct Given {
    /// It was as large as a batch may be.
    is_full: bool,
    /// When its last transaction was committed.
    read_time: Option<i64>,
    /// Up to where the publisher may forget then.
    confirmable: Option<PgLsn>,
}

/// A flow under way.
pub(super) struct Run<'a> {
    flow: &'a Flow,
    publisher: &'a mut Session,
    worker: Worker,
    /// The worker applies batches as they are planned here, while it is at the one before.
    is_hasty: bool,
    /// What is to be noted once the job that is under way is done.
    given: Given,
    /// End of the last transaction that is applied and committed.
    applied: Option<PgLsn>,
    reader: Reader,
    mapping: Mapping,
    /// By address: a relation lives as long as its binding.
    bindings: HashMap<*const Relation, (Arc<Relation>, Binding)>,
    moves: Moves,
    /// The subscriber's tables that refer to others, where foreign keys fire.
    ranks: Ranks,
    /// Whole transactions, not applied yet.
    batch: Vec<Transaction>,
    batch_bytes: usize,
    batch_began: Option<Instant>,
    /// Bytes from which on a batch is applied.
    batch_limit: usize,
    /// The publisher has sent all that it has, for now.
    drained: bool,
    /// When the last transaction of a chunk was committed, in microseconds since 2000: of what was read, and of what is applied.
    read_time: Option<i64>,
    applied_time: Option<i64>,
    /// The publisher's clock, in microseconds since 2000, when the run began.
    clock: i64,
    /// The publisher's next xid when the flow was measured last, where there are snapshots of it.
    next_xid: u64,
    began: Instant,
    pace: Pace,
    open: Option<Open>,
    /// End of the last transaction that was read, applied or left out.
    last_end: PgLsn,
    /// The server has said that nothing concerns us before it.
    quiet_until: u64,
    /// Up to where the publisher may forget, though it was not told yet.
    confirmable: PgLsn,
    /// The position that the publisher has noted as applied.
    told: Option<PgLsn>,
    acknowledged_at: Instant,
    pub(super) progress: Progress,
    skipped: u64,
}

impl<'a> Run<'a> {
    /// Opens what it needs, where it was left. With `binary`, what is gathered comes in binary form where it can be applied so.
    pub(super) fn begin(flow: &'a Flow, publisher: &'a mut Session, binary: bool) -> Result<Run<'a>> {
        let mut applier = Applier::connect(
            &flow.subscriber,
            &flow.publisher,
            flow.name.name(),
            &flow.detour,
            &flow.mapping,
        )?;
        applier.take_over(flow.name)?;
        // What was set aside before it was to stop is older than what comes, and may still be tried again.
        if flow.quarantine || flow.name == FlowName::Replay {
            let new = if flow.quarantine { Quarantine::new } else { Quarantine::stopping };
            let mut quarantine = new(&flow.mapping);
            quarantine.load(applier.session())?;
            applier.set_aside(quarantine);
        }
        if flow.backlog.is_some() {
            applier.hasten(&flow.subscriber, flow.name);
        }
        let (start, released) = resume::find_start(flow, &mut applier, publisher)?;
        let clock: i64 = publisher.query_one(&sql::flow::READ_CLOCK, &[])?.get("now");
        let is_gathered = match flow.backlog {
            Some(least) => flow.source.bytes_behind(publisher, start.max(released))? >= least,
            None => false,
        };
        let is_hasty = applier.is_hasty();
        let (from, to) = (publisher.version, applier.session.version);
        let binary = (binary && is_hasty).then(|| Portable::between(from, to, flow.mapping.enums()));
        if resume::watched_slot(flow).is_some() {
            // A server that shuts down waits until all is confirmed, and a crash leaves nobody to note how far that was.
            record::forget_released(publisher, flow.name.name(), &flow.detour)?;
        }
        let reader = flow.source.open(&flow.publisher, start, is_gathered, binary)?;
        Ok(Run {
            flow,
            publisher,
            applied: applier.applied(),
            ranks: applier.ranks.clone(),
            worker: Worker::new(applier),
            is_hasty,
            given: Given::default(),
            reader,
            mapping: flow.mapping.clone(),
            bindings: HashMap::new(),
            moves: Moves::default(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_began: None,
            batch_limit: flow.batch_bytes,
            drained: false,
            read_time: None,
            applied_time: None,
            clock,
            next_xid: 0,
            began: Instant::now(),
            pace: Pace::default(),
            open: None,
            last_end: start.max(released),
            quiet_until: 0,
            confirmable: PgLsn::from(0),
            told: None,
            acknowledged_at: Instant::now(),
            progress: Progress::default(),
            skipped: 0,
        })
    }

    /// Reads and applies; whether the marker was reached.
    pub(super) fn go_on(
        &mut self,
        until: &Until,
        stop: &AtomicBool,
        budget: Option<Duration>,
        report: &mut dyn FnMut(&Progress),
    ) -> Result<bool> {
        let wanted = match until {
            Until::Marker(id) => Some(id.as_str()),
            Until::CaughtUp(_) | Until::Stopped => None,
        };
        if let Some(id) = wanted
            && marker::has_marker(self.worker.applier()?.session(), id)?
        {
            return Ok(true);
        }
        self.measure()?;
        let mut reported = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let patience = if self.progress.lag_bytes > FAR_BEHIND { PATIENCE.1 } else { PATIENCE.0 };
            let wait = if self.batch.is_empty() { GLANCE } else { patience };
            if let Some(chunk) = self.reader.next(wait)? {
                self.progress.bytes += chunk.bytes as u64;
                if self.take(chunk, wanted)? {
                    report(&self.progress);
                    return Ok(true);
                }
            } else if self.drained || self.batch_is_old() {
                self.flush()?;
            }
            if self.worker.is_finished() {
                self.settle()?;
            }
            if self.acknowledged_at.elapsed() >= ACKNOWLEDGE_EVERY {
                self.acknowledge()?;
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.measure()?;
                report(&self.progress);
                if let Until::CaughtUp(most) = until
                    && self.is_within(*most)
                {
                    self.flush()?;
                    return Ok(true);
                }
            }
            if let Some(budget) = budget
                && self.began.elapsed() >= budget
            {
                return Err(self.timed_out(budget));
            }
        }
        // What has been read whole is worth keeping; a transaction that is not complete is read again next time.
        self.flush()?;
        self.roll_back()?;
        Ok(false)
    }

    /// Asks the publisher how far it is by now.
    fn measure(&mut self) -> Result<()> {
        if !self.flow.snapshots.is_empty() {
            self.next_xid = slot::read_next_xid(self.publisher)?;
        }
        let position = self.position();
        self.progress.applied_lsn = position.into();
        self.progress.lag_bytes = self.flow.source.bytes_behind(self.publisher, position)?;
        let waiting = !self.batch.is_empty() || self.worker.is_busy() || self.open.is_some() || !self.drained;
        let now = self.clock + self.began.elapsed().as_micros() as i64;
        self.progress.lag_time = if waiting {
            let since = self.applied_time.or(self.read_time);
            since.map(|since| Duration::from_micros((now - since).max(0) as u64))
        } else {
            Some(Duration::ZERO)
        };
        self.pace.note(Sample {
            at: self.began.elapsed(),
            applied: position.into(),
            written: u64::from(position) + self.progress.lag_bytes,
        });
        self.progress.rates = self.pace.rates();
        Ok(())
    }

    /// Whether the flow was no further behind when it was measured.
    fn is_within(&self, most: Lag) -> bool {
        match most {
            Lag::Bytes(bytes) => self.progress.lag_bytes <= bytes,
            Lag::Time(time) => self.progress.lag_time.is_some_and(|lag| lag <= time),
        }
    }

    fn timed_out(&mut self, budget: Duration) -> Error {
        let behind = self.flow.source.bytes_behind(self.publisher, self.position());
        Error::TimedOut {
            what: format!("applying the changes of the {} flow", self.flow.name),
            budget,
            detail: behind.ok().map(|bytes| format!("{bytes} bytes of WAL are still to be applied.")),
            hint: "Run it again with more time: it goes on where it was.".to_owned(),
        }
    }

    /// Everything before it is applied and committed.
    fn position(&self) -> PgLsn {
        if self.batch.is_empty() && !self.worker.is_busy() && self.open.is_none() {
            self.last_end.max(self.quiet_until.into())
        } else {
            self.applied.unwrap_or(PgLsn::from(0))
        }
    }

    fn batch_is_old(&self) -> bool {
        self.batch_began.is_some_and(|began| began.elapsed() >= LONGEST_WAIT)
    }

    /// Takes a chunk in, applying what is complete when there is enough of it or nothing more to come;
    /// whether the marker was reached.
    fn take(&mut self, chunk: Chunk, wanted: Option<&str>) -> Result<bool> {
        self.read_time = chunk.committed_at.or(self.read_time);
        self.drained = chunk.drained;
        for item in chunk.items {
            match item {
                Item::Begin { xid, commit_lsn } => {
                    // Known already when it came again after a break: its commit is not behind the last one applied.
                    let known = self.applied.is_some_and(|applied| commit_lsn < applied);
                    let transaction =
                        Transaction { end_lsn: commit_lsn, work: Vec::new(), markers: Vec::new() };
                    self.open = Some(Open {
                        xid,
                        transaction,
                        skip: known,
                        is_part_applied: false,
                        bytes: 0,
                        leaving: None,
                    });
                }
                Item::Origin { name } if self.flow.left_out.has(&name) => self.skip_open()?,
                Item::Origin { .. } => {}
                Item::Scratch => self.skip_open()?,
                Item::Marker { flow, marker } => {
                    if let Some(open) = &mut self.open
                        && !open.skip
                        && flow == self.flow.name.name()
                    {
                        open.transaction.markers.push(marker);
                    }
                }
                Item::Change(change) => self.add(change)?,
                Item::Commit { end_lsn } => {
                    if self.close(end_lsn, wanted) {
                        self.flush()?;
                        return Ok(true);
                    }
                    if self.batch_bytes >= self.batch_limit {
                        self.hand_over()?;
                    }
                }
            }
        }
        if self.batch_is_old() {
            self.hand_over()?;
        }
        if chunk.drained && self.open.is_none() {
            self.quiet_until = self.quiet_until.max(chunk.position);
            self.progress.applied_lsn = self.position().into();
        }
        Ok(false)
    }

    /// The open transaction is not to be applied; nor what was applied of it.
    fn skip_open(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if !open.skip {
            open.skip = true;
            open.transaction.work.clear();
            open.transaction.markers.clear();
            open.leaving = None;
            open.bytes = 0;
            self.skipped += 1;
            self.roll_back()?;
        }
        Ok(())
    }

    /// Gives up what is applied of the open transaction; parts of one that has ended belong to the batch.
    fn roll_back(&mut self) -> Result<()> {
        let is_part_applied = self.open.as_mut().map(|open| std::mem::take(&mut open.is_part_applied));
        if is_part_applied == Some(true) {
            self.settle()?;
            self.worker.applier()?.roll_back();
        }
        Ok(())
    }

    fn add(&mut self, change: Change) -> Result<()> {
        let Some(xid) = self.open.as_ref().filter(|open| !open.skip).map(|open| open.xid) else {
            return Ok(());
        };
        let (work, bytes) = match change {
            Change::Row { relation, mut change } => {
                let Some(table) = self.table_for(&relation, xid)? else { return Ok(()) };
                let mut bytes = change.bytes();
                if let RowChange::Update { old: Some(old), new } = &mut change
                    && let Some(filled) = table.filled(old, new)
                {
                    // A copy; what it was made of stays with the old row.
                    bytes += filled.size();
                    *new = filled;
                }
                (Work::Row { table, change }, bytes)
            }
            Change::Truncate { relations } => {
                let mut tables = Vec::new();
                for relation in relations.iter().filter(|relation| relation.schema != "pgdetour") {
                    tables.extend(self.table_for(relation, xid)?);
                }
                if tables.is_empty() {
                    return Ok(());
                }
                (Work::Truncate { tables }, 0)
            }
        };
        let work = self.rejoin(work);
        let Some(open) = &mut self.open else { return Ok(()) };
        open.transaction.work.push(work);
        open.bytes += bytes;
        if open.bytes < self.batch_limit {
            return Ok(());
        }
        // The row may come back by one of the next changes.
        let work = &mut open.transaction.work;
        let left = open.leaving.as_mut().and_then(|leaving| leaving.split_off(work));
        if left.is_none() {
            open.leaving = None;
        }
        let left = left.unwrap_or_default();
        if work.is_empty() {
            *work = left;
            return Ok(());
        }
        // Larger than a batch: those before it are committed by themselves, then this one goes on in one transaction.
        open.bytes = 0;
        open.is_part_applied = true;
        let part = Transaction {
            end_lsn: open.transaction.end_lsn,
            work: std::mem::replace(&mut open.transaction.work, left),
            markers: Vec::new(),
        };
        self.hand_over()?;
        let plan = self.plan_ahead(std::slice::from_ref(&part));
        self.settle()?;
        self.given = Given { is_full: true, ..Given::default() };
        self.worker.start(Job::Part(part, plan))
    }

    /// The transaction has ended; whether the wanted marker came in it.
    fn close(&mut self, end_lsn: PgLsn, wanted: Option<&str>) -> bool {
        let Some(open) = self.open.take() else { return false };
        self.last_end = end_lsn;
        let mut transaction = open.transaction;
        let reached = transaction.markers.iter().any(|marker| Some(marker.id.as_str()) == wanted);
        let is_empty = transaction.work.is_empty() && transaction.markers.is_empty() && !open.is_part_applied;
        if open.skip || is_empty {
            if self.batch.is_empty() {
                self.note_end(end_lsn);
            }
            return false;
        }
        transaction.end_lsn = end_lsn;
        self.batch_bytes += open.bytes;
        self.batch_began.get_or_insert_with(Instant::now);
        self.batch.push(transaction);
        reached
    }

    /// A transaction of which nothing is to be applied has ended, and all before it is applied or being applied: the publisher may
    /// forget it, too. A backlog is read to its end only once that is confirmed.
    fn note_end(&mut self, end_lsn: PgLsn) {
        if self.worker.is_busy() {
            self.given.confirmable = Some(end_lsn);
        } else {
            self.confirmable = self.confirmable.max(end_lsn);
        }
    }

    /// Applies and commits what is complete.
    fn flush(&mut self) -> Result<()> {
        self.hand_over()?;
        self.settle()
    }

    /// Begins to apply what is complete, once the batch before it is applied.
    fn hand_over(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let plan = self.plan_ahead(&batch);
        self.settle()?;
        self.given = Given {
            is_full: self.batch_bytes >= self.batch_limit,
            read_time: self.read_time,
            confirmable: self.open.is_none().then_some(self.last_end),
        };
        self.batch_bytes = 0;
        self.batch_began = None;
        self.worker.start(Job::Whole(batch, plan))
    }

    /// The steps for transactions that are handed over next.
    fn plan_ahead(&self, transactions: &[Transaction]) -> Option<Vec<Planned>> {
        let work = transactions.iter().flat_map(|transaction| &transaction.work);
        if self.is_hasty { batch::coalesce(work, Shape::Plain).ok() } else { None }
    }

    /// Waits until what was handed over is applied, and notes what came of it.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(report) = self.worker.finish()? else { return Ok(()) };
        self.progress.changes += report.changes;
        self.progress.conflicts += report.conflicts;
        self.progress.transactions += report.transactions;
        self.applied = report.applied;
        if let Some(applied) = report.applied {
            self.progress.applied_lsn = applied.into();
            self.confirmable = self.confirmable.max(applied);
        }
        report.outcome?;
        let Given { is_full, read_time, confirmable } = self.given;
        self.applied_time = read_time.or(self.applied_time);
        self.confirmable = confirmable.unwrap_or(self.confirmable).max(self.confirmable);
        // Larger batches when a full one has spent much of its time with waiting for a subscriber that is far away.
        if is_full && report.round_trip >= SHORT_TRIP && report.waited * 8 > report.took {
            self.batch_limit = (self.batch_limit * 2).min(LARGEST_BATCH.max(self.flow.batch_bytes));
        }
        Ok(())
    }

    /// Lets the publisher forget what is applied, once it knows how far that is: a subscriber that goes back in time is
    /// then found out.
    fn acknowledge(&mut self) -> Result<()> {
        self.acknowledged_at = Instant::now();
        if let Some(applied) = self.applied.filter(|applied| Some(*applied) != self.told) {
            record::write_progress(self.publisher, self.flow.name.name(), &self.flow.detour, applied)?;
            self.told = Some(applied);
        }
        self.reader.confirm(self.confirmable);
        Ok(())
    }

    /// Leaves the slot at the applied position.
    pub(super) fn end(mut self, reached: bool) -> Result<Applied> {
        // Before the publisher notes how far it is, which is written there, too.
        self.measure()?;
        self.acknowledge()?;
        let position = self.position();
        let Run { flow, publisher, mut worker, reader, progress, skipped, began, told, .. } = self;
        let applier = worker.applier()?;
        if let Some(told) = told {
            record::note_told(applier.session(), flow.name.name(), &flow.detour, told)?;
        }
        let replica_role = applier.replica_role();
        reader.finish();
        if position > PgLsn::from(0) {
            flow.source.release(publisher, position)?;
        }
        if let Some(slot) = resume::watched_slot(flow) {
            record::note_released(publisher, flow.name.name(), &flow.detour, slot)?;
        }
        Ok(Applied {
            transactions: progress.transactions,
            changes: progress.changes,
            conflicts: progress.conflicts,
            skipped,
            bytes: progress.bytes,
            applied_lsn: position,
            lag_bytes: progress.lag_bytes,
            reached,
            replica_role,
            time: began.elapsed(),
            lag_time: progress.lag_time,
            rates: progress.rates,
        })
    }
}
