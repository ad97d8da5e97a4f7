//! How long a router is waited for, while clients are.

use std::time::{Duration, Instant};

/// How long one may take over anything but a hold. It answers within milliseconds; one behind a network that takes two seconds is
/// not silent.
const ANSWER: Duration = Duration::from_millis(2300);
/// How long one may take that was silent the last time: what it is asked on the way back, with that first time, shall not take
/// longer than a pause may by default.
const ANSWER_AFTER_SILENCE: Duration = Duration::from_millis(500);

/// Patience with one router.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    was_silent: bool,
}

impl Patience {
    /// How long the next answer may take.
    pub fn budget(&self) -> Duration {
        if self.was_silent { ANSWER_AFTER_SILENCE } else { ANSWER }
    }

    /// Takes note of an answer, or of none, that was to come by `deadline`.
    pub fn learn(&mut self, has_answered: bool, deadline: Instant) {
        self.was_silent = !has_answered && Instant::now() >= deadline;
    }
}
