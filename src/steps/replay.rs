//! Applies the changes captured on the target to the source, through the mapping.

mod beside;
pub mod quarantine;
pub mod rehearsal;

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::thread::{self};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use serde_json::{Value, json};

use crate::config::OnConflict;
use crate::error::{ALTERED, Error, Result};
use crate::flow::apply::follow::BACKLOG_BYTES;
use crate::flow::apply::pace::Rates;
use crate::flow::apply::resume;
use crate::flow::mapping::Mapping;
use crate::flow::{Applied, Flow, FlowName, Progress, Until, apply_until, marker};
use crate::output::{bytes, duration, plural, plural_is};
use crate::pg::record;
use crate::phase::{Command, Phase, Side};
use crate::steps::replay::beside::Beside;
use crate::steps::run::facts::{Facts, ReplayStop};
use crate::steps::{Needs, Run, preconditions};
use crate::units::Lag;

/// What the command is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Apply all that was captured before the call.
    CatchUp,
    /// Apply changes as they come until told to stop.
    Follow,
    /// Apply changes as they come until the source is no further behind.
    CatchUpWithin(Lag),
    /// Show what becomes of each captured column.
    Lint,
    /// Try the mapping on the rows that are there.
    Rehearse {
        /// Only so many of each table.
        sample: Option<u64>,
    },
    /// Show what was set aside.
    ListQuarantine {
        /// Only this change.
        id: Option<i64>,
        /// Only changes behind this one.
        after: i64,
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
    if let Task::ListQuarantine { id, after } = task {
        // Changes nothing: it needs no lock, and goes on to show what a cutback has been allowed to give up.
        run.connect(Needs::Both)?;
        if run.phase() != Phase::Returned {
            run.refuse_wrong_phase()?;
        }
        return quarantine::list(run, id, after);
    }
    if task == Task::Follow {
        run.show_that_it_follows();
    }
    run.open(Needs::Both)?;
    match task {
        Task::CatchUp | Task::Follow | Task::CatchUpWithin(_) | Task::ListQuarantine { .. } => {}
        Task::Lint => {
            let (lint, refused) = run.step("compare the schemas", |run| {
                let refused = run.check_all(&[preconditions::MAPPING])?.failures;
                Ok((run.lint(&refused)?, refused))
            })?;
            let report = json!({ "lint": lint });
            if refused.is_empty() {
                return Ok(report);
            }
            // What each column becomes is what was asked for, also where replay would be refused.
            run.report = Some(report);
            return Err(Error::ChecksFailed { findings: refused });
        }
        Task::Rehearse { sample } => return rehearsal::run(run, sample),
        Task::RetryQuarantine { id } => return quarantine::retry(run, id),
        Task::SkipQuarantine { id } => return quarantine::skip(run, id),
    }
    run.step("check preconditions", |run| match task {
        Task::Follow => require_in_spite_of_outages(run),
        _ => run.require(&[preconditions::REPLAY]),
    })?;
    let applied = match task {
        Task::Follow => run.step("follow captured changes", |run| {
            let flow = checked_flow(run)?;
            let _beside = if run.plan.is_dry() {
                None
            } else {
                Some((Beside::tell_missed(run)?, Beside::tell_waits(run)))
            };
            apply(run, &flow, &Until::Stopped, None)
        })?,
        Task::CatchUpWithin(lag) => run.step("apply captured changes as they come", |run| {
            let flow = checked_flow(run)?;
            let applied = apply(run, &flow, &Until::CaughtUp(lag), None)?;
            heed_an_early_end(run, &applied)?;
            Ok(applied)
        })?,
        _ => run.step("apply captured changes", |run| {
            let flow = checked_flow(run)?;
            catch_up_with(run, &flow, None)
        })?,
    };
    run.changed = applied.changes + applied.conflicts > 0;
    let lag_bytes = if run.plan.is_dry() { 0 } else { applied.lag_bytes };
    let quarantined = run.answering(Side::Source).map(record::count_quarantined).transpose()?;
    if applied.conflicts > 0 {
        run.warn(set_aside(applied.conflicts, quarantined));
    } else if let Some(count) = quarantined.filter(|count| *count > 0)
        && run.config.replay.on_conflict == OnConflict::Stop
    {
        run.warn(waiting(count.cast_unsigned()));
    }
    let seconds = applied.time.as_secs_f64();
    let per_second = |count: u64| if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 };
    let round = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(json!({
        "transactions": applied.transactions,
        "changes": applied.changes,
        "applied_lsn": applied.applied_lsn.to_string(),
        "lag_bytes": lag_bytes,
        "lag_seconds": applied.lag_time.map(round),
        // Followed until the end, it may well have nothing left.
        "caught_up": applied.reached || lag_bytes == 0,
        "seconds": round(applied.time),
        "changes_per_second": per_second(applied.changes),
        "bytes_per_second": applied.rates.map(|rates| rates.applied),
        "written_bytes_per_second": applied.rates.map(|rates| rates.written),
        "converges": applied.rates.map(|rates| rates.catches_up_in.is_some()),
        "catches_up_in_seconds": applied.rates.and_then(|rates| rates.catches_up_in).map(round),
        "conflicts": applied.conflicts,
        "quarantined": quarantined,
        "skipped": applied.skipped,
        "set_based": applied.replica_role,
    }))
}

/// As the flow itself does, what is to follow for long outlives the end of a session, or of a server, before it has begun; and it
/// waits for maintenance that holds a table.
fn require_in_spite_of_outages(run: &mut Run) -> Result<()> {
    let require = |run: &mut Run| outwaiting_locks(run, |run| run.require(&[preconditions::REPLAY]));
    let mut checked = require(run);
    for attempt in 1..resume::ATTEMPTS {
        match checked {
            Err(error) if error.is_connection_lost() => {
                run.output.say(&format!("{}; tries again", error.with_cause()));
                pause_unless_told_to_end(run, resume::pause(attempt))?;
                checked = regain(run).and_then(|()| require(run));
            }
            other => return other,
        }
    }
    checked
}

/// Does it again as long as another session holds a lock that it needs, until it is told to end.
fn outwaiting_locks<T>(run: &mut Run, mut work: impl FnMut(&mut Run) -> Result<T>) -> Result<T> {
    let mut has_told = false;
    loop {
        match work(run) {
            Err(error) if error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE) => {
                if !has_told {
                    run.output.say(&format!("{}; waits for the lock", error.with_cause()));
                    has_told = true;
                }
                pause_unless_told_to_end(run, resume::pause(1))?;
            }
            other => return other,
        }
    }
}

fn pause_unless_told_to_end(run: &Run, pause: Duration) -> Result<()> {
    let deadline = Instant::now() + pause;
    while Instant::now() < deadline {
        run.heed_signals()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Takes lost sessions anew; begins from the start where a lock was lost with its own.
fn regain(run: &mut Run) -> Result<()> {
    if !run.locks.is_empty() && run.assert_locked().is_ok() {
        return run.renew_sessions();
    }
    run.locks.clear();
    run.open(Needs::Both)
}

/// What this run has set aside, and how many changes that and all that follows from it, and what earlier runs have set aside, are.
fn set_aside(conflicts: u64, quarantined: Option<i64>) -> String {
    let all = match quarantined.map(i64::cast_unsigned) {
        Some(all) if all != conflicts => format!("; {} in quarantine in all", plural_is(all, "change")),
        _ => String::new(),
    };
    format!(
        "{} set aside by this run, not fitting the source{all}; see pgdetour replay --quarantine list",
        plural(conflicts, "change")
    )
}

/// What is in quarantine where nothing new is to be set aside.
fn waiting(quarantined: u64) -> String {
    format!(
        "{} in quarantine, though replay.on_conflict is \"stop\": later changes of the same rows are set aside behind them; see \
         pgdetour replay --quarantine list",
        plural_is(quarantined, "change")
    )
}

/// Applies everything that was captured before the call.
pub fn catch_up(run: &mut Run, budget: Option<Duration>) -> Result<Applied> {
    let flow = Flow { backlog: Some(BACKLOG_BYTES), ..mapped_flow(run)? };
    catch_up_with(run, &flow, budget)
}

fn catch_up_with(run: &mut Run, flow: &Flow, budget: Option<Duration>) -> Result<Applied> {
    let id = record::new_id(run.target())?;
    marker::write_marker(run.target(), FlowName::Replay, &id)?;
    let applied = apply(run, flow, &Until::Marker(id.clone()), budget)?;
    heed_an_early_end(run, &applied)?;
    let (source, target) = run.both();
    marker::remove_marker(target, source, &id)?;
    Ok(applied)
}

fn apply(run: &mut Run, flow: &Flow, until: &Until, budget: Option<Duration>) -> Result<Applied> {
    let stop = run.signals.stop_flag();
    let gauge = run.output.gauge();
    let has_followed = *until == Until::Stopped;
    let mut done = Progress::default();
    let mut renewed: Option<Flow> = None;
    let mut attempt = 0;
    let applied = loop {
        attempt += 1;
        let before = done;
        let applied = apply_until(renewed.as_ref().unwrap_or(flow), until, &stop, budget, &mut |progress| {
            done = progress.after(&before);
            gauge.show(|| describe(&done));
        });
        if done.transactions > before.transactions {
            attempt = 1;
        }
        match applied {
            Err(error) if error.kind() == ALTERED && attempt < resume::ATTEMPTS => {
                run.output.say(&format!("{error}; maps them anew"));
                run.renew_sessions()?;
                let mapped =
                    if has_followed { outwaiting_locks(run, recorded_flow)? } else { mapped_flow(run)? };
                renewed = Some(Flow { backlog: flow.backlog, ..mapped });
            }
            other => {
                let whole = |applied: Applied| Applied {
                    transactions: before.transactions + applied.transactions,
                    changes: before.changes + applied.changes,
                    conflicts: before.conflicts + applied.conflicts,
                    ..applied
                };
                break other.map(whole);
            }
        }
    };
    gauge.end();
    let applied = match applied {
        Ok(applied) => applied,
        // Told to end while it waits for a server: all that it has applied is committed.
        Err(error) if has_followed && error.is_connection_lost() && stop.load(Ordering::SeqCst) => {
            run.output.say(&format!("ends while a server is away: {}", error.with_cause()));
            Applied::until_failure(&done)
        }
        // Or for a lock, which nobody waits for any more then.
        Err(error) if has_followed && is_of_waiting(&error) && stop.load(Ordering::SeqCst) => {
            run.output.say(&format!("ends while it waits for a lock: {}", error.with_cause()));
            // What waits is not applied: how much that is was measured before it came.
            let (source, done) = (run.recording(), Applied::until_failure(&done));
            let target = run.answering(Side::Target);
            let behind = target.and_then(|target| source.bytes_behind(target, done.applied_lsn).ok());
            Applied { lag_bytes: behind.unwrap_or(done.lag_bytes), lag_time: None, ..done }
        }
        Err(error) => {
            note_applied(run, &Applied::until_failure(&done));
            note_stop(run, &error);
            return Err(error);
        }
    };
    if !run.plan.is_dry() {
        let renewed = run.renew_sessions();
        // What follows is told as far as there is somebody to ask.
        renewed.or_else(|error| if has_followed { Ok(()) } else { Err(error) })?;
    }
    if !applied.replica_role {
        run.warn(
            "our role may not set session_replication_role on the source: tables are written in the order of their foreign \
             keys, and the source's triggers fire, for the last state of each row in a batch",
        );
    }
    Ok(applied)
}

/// A lock was not to be had, or what waited for one was ended.
fn is_of_waiting(error: &Error) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].iter().any(|code| error.is_sqlstate(code))
}

/// Fails where a signal has ended what was to go on until a marker or a lag was reached; following ends so in good order.
/// Replay has not done what it was for then, and of a switch nothing has begun.
fn heed_an_early_end(run: &mut Run, applied: &Applied) -> Result<()> {
    if applied.reached {
        return Ok(());
    }
    note_applied(run, applied);
    run.part_way |= run.command == Command::Replay;
    run.heed_signals()
}

/// What was applied before a failure is committed, and stays.
fn note_applied(run: &mut Run, applied: &Applied) {
    run.changed |= applied.changes + applied.conflicts > 0;
    if run.command == Command::Replay {
        let quarantined = run.answering(Side::Source).map(record::count_quarantined);
        run.report = Some(json!({
            "transactions": applied.transactions,
            "changes": applied.changes,
            "applied_lsn": applied.applied_lsn.to_string(),
            // Before it has measured it is not known.
            "lag_bytes": (u64::from(applied.applied_lsn) > 0).then_some(applied.lag_bytes),
            "caught_up": false,
            "conflicts": applied.conflicts,
            "quarantined": quarantined.and_then(Result::ok),
        }));
    }
}

/// Notes in the record what the flow stands still at, for `status`. A failure to do so is no failure of the command.
fn note_stop(run: &mut Run, error: &Error) {
    let stays = match error {
        Error::Conflict { .. } => true,
        Error::Sql { .. } => !resume::may_succeed_later(error),
        _ => false,
    };
    if stays && try_to_note_stop(run, error).is_err() {
        run.output.elaborate("status does not show what replay has stopped at: it could not be recorded");
    }
}

fn try_to_note_stop(run: &mut Run, error: &Error) -> Result<()> {
    run.renew_sessions()?;
    let detour = run.detour_id()?;
    // Without a position replay has not begun to apply, and status sees by itself why.
    let Some(applied) = record::read_progress_of(run.source(), FlowName::Replay.name(), &detour)? else {
        return Ok(());
    };
    let stop = ReplayStop {
        applied_lsn: applied.lsn.to_string(),
        message: error.to_string(),
        detail: error.detail(),
        // Another command is to tell it.
        hint: error.hint().map(|hint| hint.replace("the same command", "pgdetour replay")),
    };
    run.add_facts(&Facts { replay_stop: Some(stop), ..Facts::default() })
}

/// `1,234,567 changes applied, 12.3 MB/s; 1.2 GB and 35.0 s behind, caught up in 98.0 s`.
fn describe(progress: &Progress) -> String {
    let mut text = format!("{} applied", plural(progress.changes, "change"));
    // Writing to a string cannot fail.
    if let Some(rates) = progress.rates {
        let _ = write!(text, ", {}/s", bytes(rates.applied));
    }
    let _ = write!(text, "; {}", bytes(progress.lag_bytes));
    if let Some(time) = progress.lag_time {
        let _ = write!(text, " and {}", duration(time));
    }
    text.push_str(" behind");
    match progress.rates {
        Some(Rates { catches_up_in: None, .. }) => {
            text.push_str(", and falling behind: more is written than is applied");
        }
        Some(Rates { catches_up_in: Some(time), .. }) if !time.is_zero() => {
            let _ = write!(text, ", caught up in {}", duration(time));
        }
        _ => {}
    }
    text
}

/// The replay flow through the configured mapping.
pub(super) fn mapped_flow(run: &mut Run) -> Result<Flow> {
    let mapping = run.replay_mapping()?;
    run.replay_flow(mapping)
}

/// The same, for a run that goes on whatever is made on the target beside it, and has told of it.
fn recorded_flow(run: &mut Run) -> Result<Flow> {
    let mapping = run.mapping_of_recorded()?;
    run.replay_flow(mapping)
}

/// The configured mapping, as the checks have built it a moment ago.
pub(super) fn checked_mapping(run: &mut Run) -> Result<Mapping> {
    run.checked_mapping.take().map_or_else(|| run.replay_mapping(), Ok)
}

/// The same flow, through the mapping of the checks.
fn checked_flow(run: &mut Run) -> Result<Flow> {
    let mapping = checked_mapping(run)?;
    Ok(Flow { backlog: Some(BACKLOG_BYTES), ..run.replay_flow(mapping)? })
}
