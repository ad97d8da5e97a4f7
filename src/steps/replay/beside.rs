//! Beside a replay that follows: what comes to the target and is not recorded, and who keeps changes waiting on the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::flow::apply::resume;
use crate::pg::sessions;
use crate::pg::{Server, Session};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::capture::recorded::Recorded;

/// Between two looks at what is not recorded.
const MISSED_PERIOD: Duration = Duration::from_secs(5);
/// Between two looks at who is waited for.
const WAITS_PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at whether to end, and between two looks once the run has been told to end.
const POLL: Duration = Duration::from_millis(50);
/// How long a wait may go on once the run has been told to end: most are over by then.
const GRACE: Duration = Duration::from_millis(500);

/// Looks until it is dropped. A server that does not answer keeps nobody waiting: the thread is left alone then.
pub struct Beside {
    is_over: Arc<AtomicBool>,
}

impl Beside {
    /// Warns once of each thing that is on the target and not recorded, so that nothing of it ever comes along.
    pub fn tell_missed(run: &mut Run) -> Result<Beside> {
        let (recorded, output) = (Recorded::of(run)?, run.output.clone());
        Ok(Beside::begin(run.server(Side::Target), Arc::default(), MISSED_PERIOD, move |session| {
            for finding in recorded.list_missed(session)? {
                output.warn(&format!("{}. {}", finding.message, finding.hint));
            }
            Ok(())
        }))
    }

    /// Tells once of each session whose locks are waited for, such as maintenance that holds a table; once the run is told to
    /// end, nobody is waited for any more.
    pub fn tell_waits(run: &Run) -> Beside {
        let (output, stop) = (run.output.clone(), run.signals.stop_flag());
        let (asked, mut stopped) = (Arc::clone(&stop), None);
        let mut told: Vec<Option<i32>> = Vec::new();
        Beside::begin(run.server(Side::Source), stop, WAITS_PERIOD, move |session| {
            if asked.load(Ordering::SeqCst) {
                let since = *stopped.get_or_insert_with(Instant::now);
                return if since.elapsed() >= GRACE { resume::end_waits(session) } else { Ok(()) };
            }
            for blocker in sessions::list_apply_blockers(session)? {
                // Between two attempts nobody waits, and the same is not news.
                if !told.contains(&blocker.pid) {
                    output.say(&format!(
                        "waits on the source for a lock that another session holds: {blocker}"
                    ));
                    told.push(blocker.pid);
                }
            }
            Ok(())
        })
    }

    /// Calls `look` with a session of its own every `period`, and much more often once `stop` is set.
    fn begin(
        server: &Server,
        stop: Arc<AtomicBool>,
        period: Duration,
        mut look: impl FnMut(&mut Session) -> Result<()> + Send + 'static,
    ) -> Beside {
        let is_over = Arc::new(AtomicBool::new(false));
        let (server, ended) = (server.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut session: Option<Session> = None;
            while !ended.load(Ordering::SeqCst) {
                // A server that is away is the flow's to tell.
                session = session.or_else(|| server.connect().ok());
                if let Some(open) = &mut session
                    && look(open).is_err()
                {
                    session = None;
                }
                let is_stopped = stop.load(Ordering::SeqCst);
                let deadline = Instant::now() + if is_stopped { POLL } else { period };
                while Instant::now() < deadline
                    && !ended.load(Ordering::SeqCst)
                    && stop.load(Ordering::SeqCst) == is_stopped
                {
                    thread::sleep(POLL);
                }
            }
        });
        Beside { is_over }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}
