//! The fence of the source lowered on the way home: planned before the hold, begun beside the decision, ended after it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::pg::fence::{self, FenceUndo, Lowering};
use crate::pg::record;
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::switch::attempt::connect_until;
use crate::steps::switch::{HOME, Switch, ended};

/// For so long after its last answer the source is taken to be there.
const FRESH: Duration = Duration::from_millis(100);

/// The lowering of the source's fence on the way home.
pub struct Opening {
    fence: FenceUndo,
    plan: Lowering,
    /// When all of it but the commit was done.
    begun: Option<Instant>,
}

impl Run {
    /// Finds out what lowering the fence of the cutover will do, for a time when that has to be fast.
    pub fn plan_opening(&mut self) -> Result<()> {
        let Some(fence) = self.facts()?.source_fence else { return Ok(()) };
        let plan = fence::plan_lowering(self.source(), &fence)?;
        self.opening = Some(Opening { fence, plan, begun: None });
        Ok(())
    }

    /// Lets general roles connect to the source again.
    pub fn open_the_source(&mut self) -> Result<()> {
        let Some(fence) = self.facts()?.source_fence else { return Ok(()) };
        let Some(Opening { plan, begun, .. }) = self.opening.take() else {
            return fence::lower(self.source(), &fence);
        };
        let mut committing = false;
        let lowered = match begun {
            // The source has just answered: as soon after that as if it had been asked here.
            Some(begun) if begun.elapsed() < FRESH => {
                committing = true;
                fence::commit_lowering(self.source(), &fence, &plan)
            }
            _ => {
                let ended = begun.map_or(Ok(()), |_| self.source().change_script("rollback"));
                ended.and_then(|()| fence::lower_as_planned(self.source(), &fence, &plan, &mut committing))
            }
        };
        match lowered {
            Err(error) if error.is_connection_lost() && !committing => self.open_after_a_break(&fence, error),
            // Somebody may have changed the grants since: then it is planned again.
            Err(error) if !error.is_connection_lost() => fence::lower(self.source(), &fence),
            other => other,
        }
    }

    /// The deciding statement; on the way home, the source's fence is lowered at the same time up to the commit, for which the
    /// decision is waited for.
    pub fn decide_and_begin_to_open(
        &mut self,
        switch: Switch,
        facts: &Value,
        lock: i32,
    ) -> Result<Option<Value>> {
        let is_dry = self.plan.is_dry();
        let (Some(source), Some(target)) = (&mut self.source, &mut self.target) else {
            unreachable!("open() connected to both sides, which this command needs")
        };
        let mut decide = || record::decide(target, switch.moving, switch.to(), facts, lock);
        let Some(opening) = self.opening.as_mut().filter(|_| !is_dry && switch.to() == Side::Source) else {
            return decide();
        };
        thread::scope(|scope| {
            let Opening { fence, plan, begun } = opening;
            let beginning = scope.spawn(|| fence::begin_to_lower(source, fence, plan));
            let decided = decide();
            // What went wrong is found again, and told, where the fence is lowered.
            if ended(beginning).is_ok() {
                *begun = Some(Instant::now());
            }
            decided
        })
    }

    /// Takes back the lowering that was begun beside a decision which was not made.
    pub fn give_up_opening(&mut self) {
        if let Some(Opening { begun: Some(_), .. }) = self.opening.take() {
            // A session that is lost has rolled back by itself.
            let _ = self.source().change_script("rollback");
        }
    }

    /// Lowers the source's fence after the session was lost; when the source stays away, home is not where clients can be:
    /// as nobody can have used it through the fence, even the decision is taken back.
    pub fn open_after_a_break(&mut self, fence: &FenceUndo, error: Error) -> Result<()> {
        if let Ok(session) = connect_until(&self.source_server, self.reach_deadline()) {
            self.source = Some(session);
            return fence::lower(self.source(), fence);
        }
        // Clients wait: neither the source nor its lock is asked again, and the target has just answered.
        self.locks.retain(|lock| lock.place() != Side::Source);
        self.revoke_decision(HOME)?;
        self.take_back_attempt(HOME);
        Err(error)
    }
}
