//! A switch whose decision got no answer, and whose target stays away: it ends on the source, which then says so itself.
//!
//! Nobody but the run that decides acts on a decision, and it has not: clients are held, and no run can follow it while it
//! has the source's lock. So the source may serve, provided that whoever reads the target's record later learns of it first.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pg::fence::{self, FenceUndo};
use crate::pg::lock::{Key, Lock};
use crate::pg::record;
use crate::phase::{Phase, Serving, Side};
use crate::steps::Run;
use crate::steps::switch::undo::Undo;
use crate::steps::switch::{HOME, OUT, Switch};

impl Run {
    /// Lets clients go on at the source after the answer to the decision was lost, as `lost` tells.
    pub fn settle_without_the_target(&mut self, switch: Switch, lost: &Error) {
        let command = self.command;
        match self.settle_on_the_source(switch) {
            Ok(()) => {
                if let Some(detour) = &mut self.detour {
                    detour.serving = Serving::Source;
                }
                self.warn(format!(
                    "the target did not say whether the switch to the {} was decided ({lost}): general traffic is on the \
                     source, which has noted it. Run pgdetour {command} again once the target answers",
                    switch.to()
                ));
            }
            Err(error) => self.warn(format!(
                "the target did not say whether the switch to the {} was decided ({lost}), and clients are still held: \
                 {}. Run pgdetour {command} again once both servers answer",
                switch.to(),
                error.with_cause()
            )),
        }
    }

    fn settle_on_the_source(&mut self, switch: Switch) -> Result<()> {
        self.hold_the_source_alone()?;
        let facts = self.facts()?;
        let missing = |what: &str| Error::Internal { message: format!("the record names no {what}") };
        let id = facts.switch.ok_or_else(|| missing("switch"))?;
        let fence = self.fence_of_the_source(switch).or(facts.source_fence);
        let fence = fence.ok_or_else(|| missing("fence of the source"))?;
        // The note comes first: from then on every run that reads of a decision knows better.
        let pending = json!(self.pending);
        record::settle_on_source(self.source(), &id, &pending)?;
        fence::lower(self.source(), &fence)?;
        if switch.to() == Side::Source {
            self.point_clients(Side::Source)?;
            self.routers()?.reconnect()?;
        }
        self.routers()?.resume()?;
        self.end_guard();
        self.settle_routers();
        Ok(())
    }

    /// Makes sure that no other run can act: each needs the lock of the source, too.
    fn hold_the_source_alone(&mut self) -> Result<()> {
        let kept = self.locks.iter_mut().find(|lock| lock.place() == Side::Source);
        if kept.is_some_and(|lock| lock.assert_held().is_ok()) {
            return Ok(());
        }
        self.locks.retain(|lock| lock.place() != Side::Source);
        let lock = Lock::acquire(&self.source_server, Key::Run)?;
        self.locks.push(lock);
        Ok(())
    }

    /// The fence that this switch has raised there.
    fn fence_of_the_source(&self, switch: Switch) -> Option<FenceUndo> {
        self.undos.iter().find_map(|undo| match undo {
            Undo::LowerFence { side: Side::Source, fence } if switch.from == Side::Source => {
                Some(fence.clone())
            }
            _ => None,
        })
    }

    /// Corrects what the record says of a switch that has ended on the source while the target was away: a cutover was not
    /// decided, whatever it says, and a cutback was.
    pub fn heed_the_source(&mut self, switch: Switch) -> Result<()> {
        if self.phase() != switch.moving {
            return Ok(());
        }
        let Some(id) = self.facts()?.switch else { return Ok(()) };
        let Some(facts) = record::read_settled(self.source(), &id)? else { return Ok(()) };
        match switch.to() {
            Side::Target => self.revoke_decision(OUT),
            Side::Source if self.is_decided() => Ok(()),
            Side::Source => self.decide_afterwards(&facts),
        }
    }

    /// Takes back in the record a decision on which nobody has acted.
    pub fn revoke_decision(&mut self, switch: Switch) -> Result<()> {
        record::revoke_decision(self.target(), switch.moving, switch.to())?;
        if let Some(detour) = &mut self.detour {
            detour.decided = None;
        }
        Ok(())
    }

    fn decide_afterwards(&mut self, facts: &Value) -> Result<()> {
        record::set_phase(self.target(), Phase::CuttingBack, Serving::Nobody, Some(HOME.to()), facts)?;
        if let Some(detour) = &mut self.detour {
            detour.decided = Some(HOME.to());
            if let (Some(known), Value::Object(fresh)) = (detour.facts.as_object_mut(), facts.clone()) {
                known.extend(fresh);
            }
        }
        Ok(())
    }
}
