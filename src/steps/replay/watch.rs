//! Beside a replay that follows: what comes to the target meanwhile and is not recorded, so that nothing of it ever comes along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::output::Output;
use crate::pg::{Server, Session};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::capture::recorded::Recorded;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Between two looks at whether to end.
const POLL: Duration = Duration::from_millis(50);

/// Looks until it is dropped.
pub struct Watch {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Begins, by a session of its own on the target; each finding is told once, as a warning.
    pub fn start(run: &mut Run) -> Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        if run.plan.is_dry() {
            return Ok(Watch { thread: None, stop });
        }
        let recorded = Recorded::of(run)?;
        let (server, output, flag) =
            (run.server(Side::Target).clone(), run.output.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || watch(&server, &recorded, &output, &flag));
        Ok(Watch { thread: Some(thread), stop })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell any more.
            let _ = thread.join();
        }
    }
}

fn watch(server: &Server, recorded: &Recorded, output: &Output, stop: &AtomicBool) {
    let mut session: Option<Session> = None;
    while !stop.load(Ordering::SeqCst) {
        // A server that is away is the flow's to tell.
        if session.is_none() {
            session = server.connect().ok();
        }
        if let Some(open) = &mut session {
            match recorded.list_missed(open) {
                Ok(findings) => findings.iter().for_each(|finding| {
                    output.warn(&format!("{}. {}", finding.message, finding.hint));
                }),
                Err(_) => session = None,
            }
        }
        let deadline = Instant::now() + PERIOD;
        while Instant::now() < deadline && !stop.load(Ordering::SeqCst) {
            thread::sleep(POLL);
        }
    }
}
