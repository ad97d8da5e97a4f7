//! The bounds of a switch, and what is left of the longest of its pauses.

use std::time::{Duration, Instant};

use crate::steps::Run;
use crate::steps::switch::Switch;

/// What is kept of a pause for letting clients go on, beside the answers that this takes.
const SPARE: Duration = Duration::from_millis(500);
/// What is kept of it for a last try to reach a server that says nothing.
const LAST_TRY: Duration = Duration::from_secs(1);

/// So much of a pause, and of a short one a fifth at most.
fn share(max_pause: Duration, wanted: Duration) -> Duration {
    wanted.min(max_pause / 5)
}

/// How long a server may say nothing while clients wait, or may be about to: a pause that is short has bounds of its own, and is
/// no reason to take a server that answers slowly for one that is away.
pub fn longest_silence(max_pause: Duration) -> Duration {
    (max_pause / 2).max(Duration::from_secs(1))
}

/// The bounds of a switch.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest time for which clients may be held; over it, all is taken back.
    pub max_pause: Duration,
    /// Bytes of WAL by which the flow may lag when the hold begins.
    pub max_lag: u64,
    /// Longest wait, with clients still served, until the lag is that small.
    pub drain_timeout: Duration,
    /// After this long in the hold, open transactions of general roles are ended; never when absent.
    pub terminate_after: Option<Duration>,
    /// How many more attempts are made when one was over a bound and was taken back.
    pub retries: u32,
    /// Do everything up to the point of no return, then take it back.
    pub rehearsal: Option<Rehearsal>,
    /// Load tables and indexes into the caches of the side that takes over.
    pub prewarm: bool,
}

/// How far a rehearsal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// Clients are held, as they will be.
    Held,
    /// Nothing touches clients.
    NotHeld,
}

impl Run {
    /// Until when something may be waited for, so that clients can go on where they were within the budget of the pause.
    pub fn pause_deadline(&self, switch: Switch, bounds: &Bounds) -> Instant {
        let way_back = self.answers.way_back(switch) + share(bounds.max_pause, SPARE);
        self.held_since.unwrap_or_else(Instant::now)
            + bounds.max_pause.saturating_sub(way_back.min(bounds.max_pause / 2))
    }

    /// What is left until then; nothing when it is over.
    pub fn pause_left(&self, switch: Switch, bounds: &Bounds) -> Duration {
        self.pause_deadline(switch, bounds).saturating_duration_since(Instant::now())
    }

    /// Until when a server that says nothing is waited for: after that it is tried once more to reach it.
    pub fn patience_deadline(&self) -> Instant {
        let budget = self.max_pause.unwrap_or_default();
        self.held_since.unwrap_or_else(Instant::now) + budget.saturating_sub(share(budget, LAST_TRY))
    }

    /// Until when it is tried to reach a server that was lost while clients are held.
    pub fn reach_deadline(&self) -> Instant {
        let budget = self.max_pause.unwrap_or_default();
        self.held_since.map_or_else(Instant::now, |held| held + budget.saturating_sub(share(budget, SPARE)))
    }

    pub(super) fn slowest_step(&self) -> String {
        let slowest = self.steps.iter().max_by(|a, b| a.ms.total_cmp(&b.ms));
        slowest.map_or_else(String::new, |step| {
            format!("the slowest step was \"{}\", {:.0} ms", step.name, step.ms)
        })
    }
}
