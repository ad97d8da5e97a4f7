//! Who keeps the sessions of a switch waiting for a lock, seen by a session of its own while they wait.
//!
//! A statement that has waited for too long fails, and then nobody waits any more of whom the server could be asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::flow::apply::resume;
use crate::pg::Server;
use crate::pg::sessions::{self, GeneralSession};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Between two looks once waits are to end: what was ended may be tried again another way.
const SOON: Duration = Duration::from_millis(20);
/// What was seen longer ago has nothing to do with a failure now.
const RECENT: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Seen {
    blockers: Option<(Instant, Vec<GeneralSession>)>,
    /// From then on those of our sessions that apply changes wait for no lock.
    end_waits_at: Option<Instant>,
    is_over: bool,
}

/// Looks until it is dropped. A server that does not answer keeps nobody waiting: its thread is left alone then.
pub struct Lookout {
    seen: Arc<Mutex<Seen>>,
    thread: Thread,
}

impl Lookout {
    /// Begins to look.
    pub fn begin(server: Server) -> Lookout {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || look(&server, &shared)).thread().clone();
        Lookout { seen, thread }
    }

    /// Who kept us waiting a moment ago.
    pub fn blockers(&self) -> Vec<GeneralSession> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.blockers.as_ref().filter(|(at, _)| at.elapsed() < RECENT);
        recent.map(|(_, blockers)| blockers.clone()).unwrap_or_default()
    }

    /// When those of our sessions that apply changes are to wait for no lock any more; never with none.
    pub fn end_waits_at(&self, at: Option<Instant>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).end_waits_at = at;
        self.thread.unpark();
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.thread.unpark();
    }
}

fn look(server: &Server, seen: &Mutex<Seen>) {
    let mut session = None;
    loop {
        let (is_over, end_at) = {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.is_over, seen.end_waits_at)
        };
        if is_over {
            return;
        }
        let left = end_at.map(|at| at.saturating_duration_since(Instant::now()));
        // A server that is away is somebody else's finding.
        session = session.or_else(|| server.connect().ok());
        let blockers = session.as_mut().map(sessions::list_apply_blockers);
        match blockers {
            Some(Ok(blockers)) if !blockers.is_empty() => {
                let found = Some((Instant::now(), blockers));
                seen.lock().unwrap_or_else(PoisonError::into_inner).blockers = found;
            }
            Some(Err(_)) => session = None,
            _ => {}
        }
        if left == Some(Duration::ZERO)
            && let Some(open) = &mut session
            && resume::end_waits(open).is_err()
        {
            session = None;
        }
        thread::park_timeout(match left {
            Some(Duration::ZERO) => SOON,
            Some(left) => left.min(EVERY),
            None => EVERY,
        });
    }
}
