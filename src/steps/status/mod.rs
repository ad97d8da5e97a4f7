//! Where the detour is, who serves, what may be run next. Takes no lock, and works with either side down.

mod attention;
mod look;

pub mod alarm;
pub mod orphans;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::output::Outcome;
use crate::steps::Run;
use attention::Level;
use look::Seen;

/// Between two looks at whether a signal has come.
const POLL: Duration = Duration::from_millis(50);

/// How the state is to be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Telling {
    /// Again after each of these, until a signal comes.
    pub watch: Option<Duration>,
    /// Fail when somebody has to act.
    pub check: bool,
    /// Even when neither server answers: monitoring has to hear of it.
    pub always: bool,
}

/// Runs the command; its report. A part that cannot be read is `null`, and `attention` says why.
pub fn run(run: &mut Run, telling: Telling) -> Result<Value> {
    if let Some(interval) = telling.watch {
        return watch(run, interval);
    }
    let mut seen = look(run);
    // Servers that had not answered by then were not waited for: what was seen is not how it is.
    if let Some(signal) = run.signals.received() {
        return Err(Error::Interrupted { signal });
    }
    let report = json!(seen);
    if !telling.check && !telling.always {
        return match seen.unreachable() {
            Some(error) => Err(error),
            None => Ok(report),
        };
    }
    if !telling.check || seen.health() == Level::Well {
        return Ok(report);
    }
    run.report = Some(report);
    let (broken, findings) = (seen.health() == Level::Broken, seen.findings());
    Err(Error::Unhealthy { broken, findings })
}

/// One look, made known to the run: the outcome's phase and who serves are those that were seen.
fn look(run: &mut Run) -> Seen {
    let seen = look::look(run);
    run.reported = seen.phase.map(|phase| (phase, seen.serving));
    seen
}

/// Shows the state again and again: on a terminal in place, elsewhere block by block. A signal is its normal end.
fn watch(run: &mut Run, interval: Duration) -> Result<Value> {
    run.shown = true;
    while run.signals.received().is_none() {
        let begun = Instant::now();
        let seen = look(run);
        if run.signals.received().is_some() {
            break;
        }
        let outcome = Outcome {
            phase: seen.phase,
            serving: seen.serving,
            report: json!(seen),
            ..Outcome::of(run.command)
        };
        if !run.output.redraw(&outcome)? {
            break;
        }
        while begun.elapsed() < interval && run.signals.received().is_none() {
            std::thread::sleep(POLL.min(interval.saturating_sub(begun.elapsed())));
        }
    }
    Ok(Value::Null)
}
