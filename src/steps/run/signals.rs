//! SIGINT and SIGTERM: work ends at the next safe point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// How long a signal may have to wait behind what is waited for.
const TURN: Duration = Duration::from_millis(300);

/// Whether a signal asked us to end. Clones share one answer.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    number: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    requested: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM from the default of ending at once.
    pub fn install() -> Result<Signals> {
        let signals = Signals::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register_usize(signal, Arc::clone(&signals.number), signal as usize)
                .map_err(Error::io("install the signal handlers"))?;
            flag::register(signal, Arc::clone(&signals.stop))
                .map_err(Error::io("install the signal handlers"))?;
        }
        Ok(signals)
    }

    /// The signal that came, if any: 2 or 15.
    pub fn received(&self) -> Option<i32> {
        match self.number.load(Ordering::SeqCst) {
            0 => None,
            number => Some(number as i32),
        }
    }

    /// Fails once a signal has come.
    pub fn heed(&self) -> Result<()> {
        self.received().map_or(Ok(()), |signal| Err(Error::Interrupted { signal }))
    }

    /// Waits up to `budget`, in turns of which `wait` takes one: a signal that has come ends it behind the turn.
    pub fn heed_while<T>(&self, budget: Duration, mut wait: impl FnMut(Duration) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + budget;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = wait(left.min(TURN));
            match waited {
                Err(Error::TimedOut { what, detail, hint, .. }) if left <= TURN => {
                    return Err(Error::TimedOut { what, budget, detail, hint });
                }
                Err(Error::TimedOut { .. }) => self.heed()?,
                other => return other,
            }
        }
    }

    /// Ends the work as a signal does, because another run asks for it.
    pub fn request_end(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether another run asked for the end.
    pub fn is_end_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// A flag that turns true with the first signal, for work that goes on in threads.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}
