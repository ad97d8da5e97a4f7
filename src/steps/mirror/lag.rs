//! The mirror just before a cutover: close behind, and moving; and what holds it up when it does not come close.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flow::source::lag;
use crate::flow::{FlowName, marker, subscription};
use crate::pg::record;
use crate::steps::Run;
use crate::steps::run::names;
use crate::steps::switch::pause::Bounds;

/// After so long it is looked at whether there is a reason to wait on.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an apply worker has failed at so far, by stage; none before PostgreSQL 15, and where there is no such worker.
type Failures = Vec<Option<i64>>;

impl Run {
    /// Waits until the mirror's subscriptions are at most `max_lag` behind, and a marker has come through them: a small lag is no proof
    /// that they move at all.
    pub fn wait_until_the_mirror_is_close(&mut self, bounds: &Bounds) -> Result<()> {
        let before = self.apply_failures()?;
        for stage in self.stages() {
            self.wait_for_the_mirror(&before, bounds.drain_timeout, |run, budget| {
                let publisher = run.session(stage.publisher());
                lag::wait_until_below(publisher, stage.slot(), bounds.max_lag, budget)
            })?;
        }
        let probe = record::new_id(self.source())?;
        marker::write_marker(self.source(), FlowName::Mirror, &probe)?;
        self.wait_for_the_mirror(&before, bounds.drain_timeout, |run, budget| {
            marker::wait_for_marker(run.target(), &probe, budget)
        })?;
        let (source, target) = self.both();
        marker::remove_marker(source, target, &probe)
    }

    /// Waits, and says early what the mirror fails at, if it does.
    fn wait_for_the_mirror(
        &mut self,
        before: &Failures,
        budget: Duration,
        wait: impl Fn(&mut Run, Duration) -> Result<()>,
    ) -> Result<()> {
        let rest = budget.saturating_sub(PATIENCE);
        let signals = self.signals.clone();
        let mut waited = signals.heed_while(budget.min(PATIENCE), |budget| wait(self, budget));
        if matches!(waited, Err(Error::TimedOut { .. })) && !rest.is_zero() {
            if let Some((trouble, hint)) = self.trouble_of_the_mirror(before)? {
                self.warn(format!("{trouble}. {hint}"));
            }
            waited = signals.heed_while(rest, |budget| wait(self, budget));
        }
        let Err(Error::TimedOut { what, detail, hint, .. }) = waited else { return waited };
        Err(match self.trouble_of_the_mirror(before)? {
            Some((trouble, hint)) => Error::TimedOut { what, budget, detail: Some(trouble), hint },
            None => Error::TimedOut { what, budget, detail, hint },
        })
    }

    fn apply_failures(&mut self) -> Result<Failures> {
        let mut failures = Vec::new();
        for stage in self.stages() {
            let session = self.session(stage.subscriber());
            let found = subscription::find_subscription(session, names::MIRROR_SUBSCRIPTION)?;
            failures.push(found.and_then(|found| found.apply_errors));
        }
        Ok(failures)
    }

    /// What stands in the way of the mirror's subscriptions, and where the server tells more; none when they are just behind.
    fn trouble_of_the_mirror(&mut self, before: &Failures) -> Result<Option<(String, String)>> {
        for (stage, before) in self.stages().iter().zip(before) {
            let place = stage.subscriber();
            let session = self.session(place);
            let found = subscription::find_subscription(session, names::MIRROR_SUBSCRIPTION)?;
            let Some(found) = found else { continue };
            let failed = found.apply_errors.unwrap_or(0) - before.unwrap_or(0);
            let trouble = if failed > 0 {
                format!("the mirror's apply worker on the {place} has failed {failed} times meanwhile")
            } else if found.worker_pid.is_none() {
                format!("the mirror's apply worker does not run on the {place}")
            } else {
                continue;
            };
            return Ok(Some((trouble, subscription::log_tells(place))));
        }
        Ok(None)
    }
}
