//! The applier at work in a thread of its own, so that the next batch is read and put together while one is applied.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::types::PgLsn;

use super::Applier;
use super::batch::{Planned, Transaction};
use crate::error::{Error, Result};

/// What the applier is to do, with the steps for it where they are known already.
pub(super) enum Job {
    /// Apply whole transactions and commit them.
    Whole(Vec<Transaction>, Option<Vec<Planned>>),
    /// Apply what has been read of a transaction that is larger than a batch.
    Part(Transaction, Option<Vec<Planned>>),
}

/// What became of it.
pub(super) struct Report {
    /// Transactions and changes that are committed by it, also before a failure.
    pub(super) transactions: u64,
    pub(super) changes: u64,
    /// Changes that it has set aside for good.
    pub(super) conflicts: u64,
    /// End of the last transaction that is applied and committed.
    pub(super) applied: Option<PgLsn>,
    pub(super) outcome: Result<()>,
    pub(super) took: Duration,
    /// How much of that was waiting for the subscriber's answers at least, and how long each takes.
    pub(super) waited: Duration,
    pub(super) round_trip: Duration,
}

/// An applier, or the thread that has it now.
pub(super) struct Worker {
    idle: Option<Applier>,
    busy: Option<JoinHandle<(Applier, Report, Job)>>,
    /// The last job. To free its memory takes a while, which the next one does not have to wait for.
    spent: Option<Job>,
}

impl Worker {
    pub(super) fn new(applier: Applier) -> Worker {
        Worker { idle: Some(applier), busy: None, spent: None }
    }

    /// Begins a job; the report of the one before has been taken.
    pub(super) fn start(&mut self, job: Job) -> Result<()> {
        let mut applier = self.idle.take().ok_or_else(is_gone)?;
        let work = move || {
            let report = run(&mut applier, &job);
            (applier, report, job)
        };
        let thread = std::thread::Builder::new().name("apply changes".to_owned()).spawn(work);
        self.busy = Some(thread.map_err(Error::io("start a thread"))?);
        self.spent = None;
        Ok(())
    }

    /// Waits until the job is done; none when there is none.
    pub(super) fn finish(&mut self) -> Result<Option<Report>> {
        let Some(thread) = self.busy.take() else { return Ok(None) };
        let (applier, report, job) = thread.join().map_err(|_| is_gone())?;
        self.idle = Some(applier);
        self.spent = Some(job);
        Ok(Some(report))
    }

    /// Whether a job is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Whether there is a report to take.
    pub(super) fn is_finished(&self) -> bool {
        self.busy.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// The applier, while no job is under way.
    pub(super) fn applier(&mut self) -> Result<&mut Applier> {
        self.idle.as_mut().ok_or_else(is_gone)
    }
}

fn is_gone() -> Error {
    Error::Internal { message: "the thread that applies changes has ended".to_owned() }
}

fn run(applier: &mut Applier, job: &Job) -> Report {
    let (began, waited, changes) = (Instant::now(), applier.waited(), applier.changes());
    let conflicts = applier.conflicts();
    let outcome = match job {
        Job::Whole(transactions, plan) => applier.apply(transactions, plan.as_deref()),
        Job::Part(part, plan) => applier.apply_part(part, plan.as_deref()),
    };
    let end = applier.applied();
    let transactions = match job {
        Job::Whole(all, _) => {
            all.iter().filter(|transaction| end >= Some(transaction.end_lsn)).count() as u64
        }
        Job::Part(..) => 0,
    };
    Report {
        transactions,
        changes: applier.changes() - changes,
        conflicts: applier.conflicts() - conflicts,
        applied: end,
        outcome,
        took: began.elapsed(),
        waited: applier.waited().saturating_sub(waited),
        round_trip: applier.round_trip(),
    }
}
