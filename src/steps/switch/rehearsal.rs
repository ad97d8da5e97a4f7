//! Rehearsals: all of a switch up to its point of no return, then taken back, while traffic goes on where it is.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pg::sessions;
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::run::facts::Facts;
use crate::steps::switch::Switch;
use crate::steps::switch::pause::{Bounds, Rehearsal};

impl Run {
    /// A switch that was decided only goes forwards: there is nothing left to rehearse.
    pub fn refuse_late_rehearsal(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        if bounds.rehearsal.is_none() || !(self.is_decided() || self.phase() == switch.arrived) {
            return Ok(());
        }
        // What an earlier run has left part way stays as it is.
        self.part_way = false;
        Err(Error::Refused {
            kind: "decided",
            message: format!("the {} has been decided, and cannot be rehearsed any more", self.command),
            detail: None,
            hint: format!("Run pgdetour {} without --rehearse: it goes on where it was.", self.command),
        })
    }

    /// Sessions of general roles that are left while the router holds its own: the switch itself would end them.
    pub fn tell_of_direct_sessions(&mut self, side: Side) -> Result<()> {
        let roles = self.config.general_roles(side);
        for session in sessions::list_sessions(self.session(side), &roles)? {
            self.warn(format!("this session does not wait at the router, and will be ended: {session}"));
        }
        Ok(())
    }

    /// Takes back what the rehearsal has done; its report, which is kept for the plan of the real switch.
    pub fn end_rehearsal(&mut self, switch: Switch, rehearsal: Rehearsal) -> Result<Value> {
        let held = self.held_since;
        if rehearsal == Rehearsal::Held {
            self.step("take the rehearsal back", |run| run.take_back(switch.settled, switch.from))?;
            self.restore_patience();
        }
        self.end_replay();
        if self.plan.is_dry() {
            return Ok(Value::Null);
        }
        // What was done without a hold is what the hold would last, less the hold itself.
        let first = self.steps.iter().position(|step| step.name.starts_with("try the fence")).unwrap_or(0);
        let alone: f64 = self.steps[first..].iter().map(|step| step.ms).sum();
        let pause = held.map_or(alone, |_| self.rehearsed_pause_ms.unwrap_or(0.0));
        self.part_way = false;
        let report = json!({
            "rehearsal": true,
            "pause_ms": (pause * 10.0).round() / 10.0,
            "steps": self.steps_report(),
            "late_writes": Value::Null,
            "clients_held": held.map(|_| self.facts().ok().and_then(|facts| facts.clients_held).unwrap_or(0)),
        });
        let kept = match switch.to() {
            Side::Target => Facts { cutover_rehearsal: Some(report.clone()), ..Facts::default() },
            Side::Source => Facts { cutback_rehearsal: Some(report.clone()), ..Facts::default() },
        };
        self.add_facts(&kept)?;
        self.note_event(&format!("rehearsed: a pause of {pause:.0} ms is to be expected"));
        Ok(report)
    }

    /// What the latest rehearsal of this command said, less its steps.
    pub fn last_rehearsal(&self) -> Option<Value> {
        let facts = self.facts().ok()?;
        let mut report = match self.command {
            crate::phase::Command::Cutover => facts.cutover_rehearsal,
            crate::phase::Command::Cutback => facts.cutback_rehearsal,
            _ => None,
        }?;
        report.as_object_mut()?.remove("steps");
        Some(report)
    }
}
