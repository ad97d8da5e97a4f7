//! Applies the changes captured on the target to the source, through the mapping.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::OnConflict;
use crate::error::{Error, Result};
use crate::flow::follow::BATCH_BYTES;
use crate::flow::mapping::Mapping;
use crate::flow::{Applied, Flow, FlowName, Progress, Until, apply_until, marker};
use crate::pg::record;
use crate::phase::Side;
use crate::steps::{Needs, Run, capture, preconditions, quarantine};

/// What the command is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Apply all that was captured before the call.
    CatchUp,
    /// Apply changes as they come until told to stop.
    Follow,
    /// Show what becomes of each captured column.
    Lint,
    /// Show what was set aside.
    ListQuarantine {
        /// Only this change.
        id: Option<i64>,
    },
    /// Try again what was set aside.
    RetryQuarantine {
        /// Only this change.
        id: Option<i64>,
    },
    /// Give up what was set aside.
    SkipQuarantine {
        /// Only this change.
        id: Option<i64>,
    },
}

/// Runs the command; its report.
pub fn run(run: &mut Run, task: Task) -> Result<Value> {
    run.open(Needs::Both)?;
    match task {
        Task::CatchUp | Task::Follow => {}
        Task::Lint => {
            let lint = run.step("compare the schemas", Run::lint)?;
            return Ok(json!({ "lint": lint }));
        }
        Task::ListQuarantine { id } => return quarantine::list(run, id),
        Task::RetryQuarantine { id } => return quarantine::retry(run, id),
        Task::SkipQuarantine { id } => return quarantine::skip(run, id),
    }
    run.step("check preconditions", |run| run.require(&[preconditions::REPLAY]))?;
    let applied = if task == Task::Follow {
        run.step("follow captured changes", |run| {
            let flow = mapped_flow(run)?;
            apply(run, &flow, &Until::Stopped, None)
        })?
    } else {
        run.step("apply captured changes", |run| catch_up(run, None))?
    };
    run.changed = applied.changes > 0;
    let lag_bytes = if run.plan.is_dry() { 0 } else { applied.lag_bytes };
    let quarantined = record::count_quarantined(run.source())?;
    if applied.conflicts > 0 {
        run.warn(format!(
            "{} changes did not fit and were set aside; see pgdetour replay --quarantine list",
            applied.conflicts
        ));
    }
    Ok(json!({
        "transactions": applied.transactions,
        "changes": applied.changes,
        "applied_lsn": applied.applied_lsn.to_string(),
        "lag_bytes": lag_bytes,
        "caught_up": applied.reached,
        "conflicts": applied.conflicts,
        "quarantined": quarantined,
        "skipped": applied.skipped,
        "set_based": applied.replica_role,
    }))
}

/// Applies everything that was captured before the call.
pub fn catch_up(run: &mut Run, budget: Option<Duration>) -> Result<Applied> {
    let flow = mapped_flow(run)?;
    let id = record::new_id(run.target())?;
    marker::write_marker(run.target(), FlowName::Replay, &id)?;
    let applied = apply(run, &flow, &Until::Marker(id.clone()), budget)?;
    // Following ends with a signal in good order; a run that was to reach a marker has not done what it was for.
    if !applied.reached {
        run.part_way = true;
        run.heed_signals()?;
    }
    let (source, target) = run.both();
    marker::remove_marker(target, source, &id)?;
    Ok(applied)
}

fn apply(run: &mut Run, flow: &Flow, until: &Until, budget: Option<Duration>) -> Result<Applied> {
    let stop = run.signals.stop_flag();
    let output = run.output.clone();
    let mut tell = |progress: &Progress| {
        output.elaborate(&format!(
            "{} transactions, {} changes applied; {} bytes of WAL behind",
            progress.transactions, progress.changes, progress.lag_bytes
        ));
    };
    let applied = apply_until(flow, until, &stop, budget, &mut tell)?;
    if !applied.replica_role {
        run.warn(
            "our role may not set session_replication_role on the source: changes were applied row by row",
        );
    }
    Ok(applied)
}

/// The replay flow through the configured mapping.
pub(super) fn mapped_flow(run: &mut Run) -> Result<Flow> {
    let mapping = run.replay_mapping()?;
    flow(run, mapping)
}

/// The replay flow through `mapping`.
pub fn flow(run: &mut Run, mapping: Mapping) -> Result<Flow> {
    Ok(Flow {
        name: FlowName::Replay,
        detour: run.detour_id()?,
        publisher: run.server(Side::Target).clone(),
        subscriber: run.server(Side::Source).clone(),
        source: capture::source(),
        mapping,
        snapshots: HashMap::new(),
        skip_origins: true,
        batch_bytes: BATCH_BYTES,
        quarantine: run.config.replay.on_conflict == OnConflict::Quarantine,
    })
}

/// A replay that runs beside a switch, up to a marker that is yet to be written.
pub struct Running {
    thread: Option<JoinHandle<Result<Applied>>>,
    stop: Arc<AtomicBool>,
    flow: FlowName,
    publisher: Side,
}

/// Starts replay up to the marker `id`, which the caller writes once nobody else can.
pub fn start(run: &mut Run, id: &str) -> Result<Running> {
    let flow = mapped_flow(run)?;
    Ok(start_flow(run, flow, id))
}

/// Starts a flow up to the marker `id`.
pub fn start_flow(run: &mut Run, flow: Flow, id: &str) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let (name, publisher) = (flow.name, flow.publisher.side);
    if run.plan.is_dry() {
        run.session(publisher.other()).note("apply changes up to the marker");
        return Running { thread: None, stop, flow: name, publisher };
    }
    let until = Until::Marker(id.to_owned());
    let flag = Arc::clone(&stop);
    let thread = thread::spawn(move || apply_until(&flow, &until, &flag, None, &mut |_| {}));
    Running { thread: Some(thread), stop, flow: name, publisher }
}

impl Running {
    /// Waits, with clients still served, until what was captured before the call is applied: what comes after is little,
    /// and the applier knows every table by then.
    pub fn catch_up(&mut self, run: &mut Run, budget: Duration) -> Result<()> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let deadline = Instant::now() + budget;
        let id = record::new_id(run.target())?;
        marker::write_marker(run.session(self.publisher), self.flow, &id)?;
        while !marker::has_marker(run.session(self.publisher.other()), &id)? {
            run.heed_signals()?;
            if thread.is_finished() || Instant::now() >= deadline {
                return self.end(budget);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let (source, target) = run.both();
        marker::remove_marker(target, source, &id)
    }

    /// Waits until the marker is applied; past `budget` the replay is stopped and the wait has failed.
    pub fn finish(mut self, budget: Duration) -> Result<()> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let deadline = Instant::now() + budget;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(200));
        }
        self.end(budget)
    }

    /// Stops the replay; an error unless it has come to its marker.
    fn end(&mut self, budget: Duration) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.store(true, Ordering::SeqCst);
        let applied = thread
            .join()
            .map_err(|_| Error::Internal { message: "the replay's thread panicked".into() })??;
        if applied.reached {
            return Ok(());
        }
        Err(Error::TimedOut {
            what: format!("applying the last changes of the {} flow", self.flow),
            budget,
            detail: Some(format!("{} bytes of WAL are still to be applied", applied.lag_bytes)),
            hint: format!(
                "Run pgdetour {}, then the same command again, or give a longer --max-pause.",
                self.flow
            ),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Whatever it came to, the switch has failed for another reason, which is the one to tell.
            let _ = thread.join();
        }
    }
}
