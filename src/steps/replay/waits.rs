//! Beside a replay that follows: who keeps its changes waiting on the source, such as maintenance that holds a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::flow::apply::resume;
use crate::output::Output;
use crate::pg::sessions;
use crate::pg::{Server, Session};
use crate::phase::Side;
use crate::steps::Run;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at whether to end.
const POLL: Duration = Duration::from_millis(50);
/// How long a wait may go on once the run has been told to end: most are over by then.
const GRACE: Duration = Duration::from_millis(500);

/// Looks until it is dropped. A server that does not answer keeps nobody waiting: its thread is left alone then.
pub struct Waits {
    is_over: Arc<AtomicBool>,
}

impl Waits {
    /// Begins, by a session of its own on the source: who is waited for is told once, and once the run is told to end, nobody is any
    /// more.
    pub fn begin(run: &Run) -> Waits {
        let is_over = Arc::new(AtomicBool::new(false));
        if !run.plan.is_dry() {
            let (server, output) = (run.server(Side::Source).clone(), run.output.clone());
            let (stop, flag) = (run.signals.stop_flag(), Arc::clone(&is_over));
            thread::spawn(move || look(&server, &output, &stop, &flag));
        }
        Waits { is_over }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn look(server: &Server, output: &Output, stop: &AtomicBool, is_over: &AtomicBool) {
    let mut session: Option<Session> = None;
    let mut told: Vec<Option<i32>> = Vec::new();
    let mut stopped: Option<Instant> = None;
    while !is_over.load(Ordering::SeqCst) {
        if stop.load(Ordering::SeqCst) {
            stopped.get_or_insert_with(Instant::now);
        }
        // A server that is away is the flow's to tell.
        if session.is_none() {
            session = server.connect().ok();
        }
        if let Some(open) = &mut session {
            let looked = match stopped {
                None => tell(open, output, &mut told),
                Some(since) if since.elapsed() >= GRACE => resume::end_waits(open),
                Some(_) => Ok(()),
            };
            if looked.is_err() {
                session = None;
            }
        }
        let deadline = Instant::now() + if stopped.is_some() { POLL } else { PERIOD };
        while Instant::now() < deadline && !is_over.load(Ordering::SeqCst) {
            if stopped.is_none() && stop.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(POLL);
        }
    }
}

fn tell(session: &mut Session, output: &Output, told: &mut Vec<Option<i32>>) -> Result<()> {
    let blockers = sessions::list_apply_blockers(session)?;
    for blocker in blockers {
        // Between two attempts nobody waits, and the same is not news.
        if !told.contains(&blocker.pid) {
            output.say(&format!("waits on the source for a lock that another session holds: {blocker}"));
            told.push(blocker.pid);
        }
    }
    Ok(())
}
