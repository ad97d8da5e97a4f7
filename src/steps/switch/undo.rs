//! How a switch is taken back: stored before the act, so that another process can do it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ServerError};
use crate::flow::subscription;
use crate::pg::fence::{self, FenceUndo};
use crate::pg::record;
use crate::phase::{Phase, Side};
use crate::steps::Run;
use crate::steps::mirror::backup;
use crate::steps::run::names;
use crate::steps::switch::Switch;

/// One thing to take back. Each may be done twice, and also when the act that it undoes never happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Let the clients go on.
    Resume,
    /// Let general roles connect, or write, again.
    LowerFence {
        /// On which side.
        side: Side,
        /// To which state.
        fence: FenceUndo,
    },
    /// Let the mirror go on.
    EnableSubscription,
}

impl Undo {
    /// Whether clients wait for it.
    fn concerns_clients(&self) -> bool {
        match self {
            Undo::Resume | Undo::LowerFence { .. } => true,
            Undo::EnableSubscription => false,
        }
    }
}

impl Run {
    /// Notes in the record how to take back what comes next.
    pub fn note_undo(&mut self, undo: Undo) -> Result<()> {
        let command = self.command.name();
        let action =
            serde_json::to_value(&undo).map_err(|error| Error::Internal { message: error.to_string() })?;
        record::push_undo(self.target(), command, &action)?;
        self.undos.push(undo);
        Ok(())
    }

    /// Takes back everything that the switch in progress has noted; clients then are where they were. Clients go on first,
    /// from what this process itself knows; then what the record has, which another process may have noted.
    /// What cannot be taken back stays noted, and does not keep the rest.
    pub fn take_back(&mut self, settled: Phase, serving: Side) -> Result<()> {
        let command = self.command.name();
        let mut failure = None;
        let known = std::mem::take(&mut self.undos);
        for undo in known.iter().rev().filter(|undo| undo.concerns_clients()) {
            // What fails is tried again from the record.
            let _ = self.undo(undo);
        }
        for (ordinal, action) in record::list_undo(self.target(), command)? {
            let undo: Undo = serde_json::from_value(action).map_err(|error| Error::Internal {
                message: format!("the record's undo cannot be read: {error}"),
            })?;
            match self.undo(&undo) {
                Ok(()) => record::remove_undo(self.target(), ordinal)?,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if let Some(error) = failure {
            self.let_routers_try_on();
            return Err(error);
        }
        self.settle_routers();
        self.settle_back(settled, serving)
    }

    /// Lets clients go on where they were, without the record, which cannot be reached: what is left to take back is
    /// taken back by the next run.
    pub fn release_clients(&mut self, switch: Switch) {
        let known = std::mem::take(&mut self.undos);
        let mut all = true;
        for undo in known.iter().rev().filter(|undo| undo.concerns_clients()) {
            if let Err(error) = self.undo(undo) {
                all = false;
                self.warn(format!("clients may not be able to use the {}: {error}", switch.from));
            }
        }
        if all {
            self.settle_routers();
        } else {
            self.let_routers_try_on();
            self.leave_to_the_guardian(&known);
        }
        if let Some(detour) = self.detour.as_mut().filter(|_| all) {
            detour.serving = switch.from.into();
        }
    }

    fn undo(&mut self, undo: &Undo) -> Result<()> {
        match undo {
            Undo::Resume => {
                self.routers()?.resume()?;
                self.end_guard();
                if let Some(held) = self.held_since.take() {
                    self.rehearsed_pause_ms = Some(held.elapsed().as_secs_f64() * 1000.0);
                }
                Ok(())
            }
            Undo::LowerFence { side, fence } => {
                // At once only once: what fails is tried again from what is there then.
                let stands = self.raised.extract_if(.., |raised| raised == side).next().is_some();
                match self.answering(*side) {
                    Some(session) if stands => fence::lower_at_once(session, fence),
                    Some(session) => fence::lower(session, fence),
                    None => Err(Error::Unreachable {
                        what: side.name().into(),
                        cause: ServerError::lost("it does not answer"),
                    }),
                }
            }
            Undo::EnableSubscription => {
                subscription::enable_subscription(self.target(), names::MIRROR_SUBSCRIPTION)?;
                backup::resume_first_stage(self)
            }
        }
    }

    fn settle_back(&mut self, settled: Phase, serving: Side) -> Result<()> {
        let command = self.command.name();
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
