//! How long clients are held, seen from the router itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::detour::Detour;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);

/// Looks at the router until it is ended.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    /// Begins to look.
    pub fn begin(detour: &Detour) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, look) = (Arc::clone(&stop), detour.look_for_hold());
        let thread = thread::spawn(move || {
            let (mut longest, mut since) = (Duration::ZERO, None);
            while !told.load(Ordering::SeqCst) {
                since = if look() { Some(since.unwrap_or_else(Instant::now)) } else { None };
                longest = longest.max(since.map_or(Duration::ZERO, |since: Instant| since.elapsed()));
                thread::sleep(EVERY);
            }
            longest
        });
        Watch { stop, thread }
    }

    /// The longest time for which clients were held without a break.
    pub fn end(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("looking does not fail")
    }
}
