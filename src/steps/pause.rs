//! The bounds of a switch, and what is left of the longest of its pauses.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::steps::Run;

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
    /// Where the budget of the pause ends.
    pub fn pause_deadline(&self, bounds: &Bounds) -> Instant {
        self.held_since.unwrap_or_else(Instant::now) + bounds.max_pause
    }

    /// What is left of the budget of the pause; nothing when it is used up.
    pub fn pause_left(&self, bounds: &Bounds) -> Duration {
        self.pause_deadline(bounds).saturating_duration_since(Instant::now())
    }

    /// Fails when the budget of the pause is used up.
    pub fn require_pause_left(&self, bounds: &Bounds) -> Result<()> {
        if self.held_since.is_none() || Instant::now() < self.pause_deadline(bounds) {
            return Ok(());
        }
        Err(Error::TimedOut {
            what: "the pause".into(),
            budget: bounds.max_pause,
            detail: Some(self.slowest_step()),
            hint:
                "Clients go on where they were. Give a longer --max-pause, or run it again at a quieter time."
                    .into(),
        })
    }

    fn slowest_step(&self) -> String {
        let slowest = self.steps.iter().max_by(|a, b| a.ms.total_cmp(&b.ms));
        slowest.map_or_else(String::new, |step| {
            format!("the slowest step was \"{}\", {:.0} ms", step.name, step.ms)
        })
    }
}
