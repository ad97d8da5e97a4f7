//! What a run came to, for output.

use serde_json::{Value, json};

use crate::error::{Error, Result, exit};
use crate::output::Outcome;
use crate::phase::{Command, Phase, Serving, Side};
use crate::routers::Routers;
use crate::steps::Run;

impl Run {
    /// The outcome, and the failure if there was one. A dry run's report is its plan.
    pub fn into_outcome(mut self, result: Result<Value>) -> (Outcome, Option<Error>) {
        let knows_phase = self.record_read || self.reported.is_some();
        // Commands that change nothing do the same in a dry run.
        let planned =
            self.plan.is_dry() && !matches!(self.command, Command::Check | Command::Status | Command::Verify);
        let is_over = matches!(&result, Err(error) if error.is_connection_lost() || matches!(error, Error::Interrupted { .. }));
        let (phase, serving) = self.found(!is_over);
        let (report, error) = match result {
            // A finished command has no steps left: what it came to is the answer, dry or not.
            Ok(_) if planned && !self.steps.is_empty() => {
                let mut report = json!({ "dry_run": true, "steps": self.steps_report() });
                if let Some(rehearsal) = self.last_rehearsal() {
                    report["rehearsal"] = rehearsal;
                }
                (report, None)
            }
            Ok(report) => (report, None),
            Err(error) => {
                let error = self.interrupted(error);
                (self.report.unwrap_or(Value::Null), Some(error))
            }
        };
        // A refusal says that nothing was changed: behind a change, the run has stopped part way.
        let is_refusal = error.as_ref().is_some_and(|error| error.exit_code(false) == exit::REFUSED);
        let outcome = Outcome {
            command: Some(self.command),
            changed: (self.changed || self.replayed && !is_refusal) && !self.plan.is_dry(),
            part_way: (self.part_way || self.changed && is_refusal) && !self.plan.is_dry(),
            phase: knows_phase.then_some(phase),
            serving: serving.filter(|_| knows_phase),
            warnings: self.warnings,
            report,
            shown: self.shown,
        };
        (outcome, error)
    }

    /// Phase and who serves. Without a record nothing but the routers, or the fences, knows that the target has stayed in service;
    /// they are asked if that is still worth their time.
    fn found(&mut self, asks: bool) -> (Phase, Option<Serving>) {
        if let Some(reported) = self.reported {
            return reported;
        }
        let phase = self.phase();
        if phase == Phase::Absent && asks && self.record_read && self.target_has_stayed() {
            return (phase, Some(Serving::Target));
        }
        (phase, Some(self.serving()))
    }

    /// Whether every router sends clients to the target; where none tells, whether the source alone is fenced.
    fn target_has_stayed(&mut self) -> bool {
        self.is_served_by_target(|sides| sides.iter().all(|side| *side == Some(Side::Target)))
    }

    /// The same for any router: without a record, what that leads to the target may be in use there.
    pub fn target_may_serve(&mut self) -> bool {
        self.is_served_by_target(|sides| sides.contains(&Some(Side::Target)))
    }

    fn is_served_by_target(&mut self, by_routers: impl FnOnce(&[Option<Side>]) -> bool) -> bool {
        let states = self.routers().map(Routers::states).unwrap_or_default();
        let sides: Vec<Option<Side>> = states.iter().map(|state| state.live).collect();
        if sides.iter().any(Option::is_some) {
            return by_routers(&sides);
        }
        self.is_fenced(Side::Source) == Some(true) && self.is_fenced(Side::Target) != Some(true)
    }

    /// Who was told to end while a server did not answer ends as told, as long as nothing is half done.
    fn interrupted(&self, error: Error) -> Error {
        match (&error, self.signals.received()) {
            (Error::Unreachable { .. }, Some(signal)) if !self.part_way && !self.is_decided() => {
                Error::Interrupted { signal }
            }
            _ => error,
        }
    }
}
