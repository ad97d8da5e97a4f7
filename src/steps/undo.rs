//! How a switch is taken back: stored before the act, so that another process can do it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::flow::subscription;
use crate::pg::fence::{self, FenceUndo};
use crate::pg::record;
use crate::phase::{Phase, Side};
use crate::steps::{Run, names};

/// One thing to take back. Each may be done twice, and also when the act that it undoes never happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Let the clients go on.
    Resume,
    /// Let general roles connect again.
    LowerFence {
        /// On which side.
        side: Side,
        /// To which state.
        fence: FenceUndo,
    },
    /// Let the mirror go on.
    EnableSubscription,
}

impl Run {
    /// Notes in the record how to take back what comes next.
    pub fn note_undo(&mut self, undo: &Undo) -> Result<()> {
        let command = self.command.name();
        let action =
            serde_json::to_value(undo).map_err(|error| Error::Internal { message: error.to_string() })?;
        record::push_undo(self.target(), command, &action)
    }

    /// Takes back everything that the switch in progress has noted, last act first; clients then are where they were.
    /// What cannot be taken back stays noted.
    pub fn take_back(&mut self, settled: Phase, serving: Side) -> Result<()> {
        let command = self.command.name();
        for (ordinal, action) in record::list_undo(self.target(), command)? {
            let undo: Undo = serde_json::from_value(action).map_err(|error| Error::Internal {
                message: format!("the record's undo cannot be read: {error}"),
            })?;
            match &undo {
                Undo::Resume => {
                    self.routers()?.resume()?;
                    self.held_since = None;
                }
                Undo::LowerFence { side, fence } => fence::lower(self.session(*side), fence)?,
                Undo::EnableSubscription => {
                    subscription::enable_subscription(self.target(), names::MIRROR_SUBSCRIPTION)?;
                }
            }
            record::remove_undo(self.target(), ordinal)?;
        }
        record::forget_steps(self.target(), command)?;
        self.unwritten_steps = self.steps.len();
        if !record::settle_phase(self.target(), settled, serving.into())? && !self.plan.is_dry() {
            return Err(Error::Internal { message: "the switch was decided while it was taken back".into() });
        }
        if let Some(detour) = self.detour.as_mut().filter(|_| !self.plan.is_dry()) {
            (detour.phase, detour.serving, detour.decided) = (settled, serving.into(), None);
        }
        self.note_event("taken back");
        Ok(())
    }

    /// Forgets the undo of a switch that has passed its point of no return.
    pub fn forget_undo(&mut self) -> Result<()> {
        let command = self.command.name();
        for (ordinal, _) in record::list_undo(self.target(), command)? {
            record::remove_undo(self.target(), ordinal)?;
        }
        Ok(())
    }
}
