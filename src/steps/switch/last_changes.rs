//! The replay that runs beside a switch and applies the last changes, up to the switch's marker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::flow::{Applied, Flow, FlowName, Until, apply_until, marker};
use crate::pg::{Session, record};
use crate::phase::Side;
use crate::steps::{Run, replay};

/// How long a replay that was stopped may take to end before the switch that it has failed goes on without it.
const LEAVE: Duration = Duration::from_millis(500);

/// A replay that runs beside a switch, up to a marker that is yet to be written.
pub struct Running {
    thread: Option<JoinHandle<Result<Applied>>>,
    stop: Arc<AtomicBool>,
    flow: FlowName,
    publisher: Side,
}

/// Starts replay up to the marker `id`, which the caller writes once nobody else can.
pub fn start(run: &mut Run, id: &str) -> Result<Running> {
    let flow = replay::mapped_flow(run)?;
    Ok(start_flow(run, flow, id))
}

/// Starts a flow up to the marker `id`.
pub fn start_flow(run: &mut Run, flow: Flow, id: &str) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let name = flow.name;
    let publisher = if flow.publisher.place == Side::Source { Side::Source } else { Side::Target };
    if run.plan.is_dry() {
        run.session(flow.subscriber.place).note("apply changes up to the marker");
        return Running { thread: None, stop, flow: name, publisher };
    }
    let until = Until::Marker(id.to_owned());
    let flag = Arc::clone(&stop);
    let thread = thread::spawn(move || apply_until(&flow, &until, &flag, None, &mut |_| {}));
    Running { thread: Some(thread), stop, flow: name, publisher }
}

impl Running {
    /// Waits, with clients still served, until what was captured before the call is applied: what comes after is little,
    /// and the applier knows every table by then.
    pub fn catch_up(&mut self, run: &mut Run, budget: Duration) -> Result<()> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let deadline = Instant::now() + budget;
        let id = record::new_id(run.target())?;
        marker::write_marker(run.session(self.publisher), self.flow, &id)?;
        while !marker::has_marker(run.session(self.publisher.other()), &id)? {
            run.heed_signals()?;
            if thread.is_finished() || Instant::now() >= deadline {
                return self.end(budget);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let (source, target) = run.both();
        marker::remove_marker(target, source, &id)
    }

    /// Waits until the marker `id` is applied and committed; past `budget` the replay is stopped and the wait has failed, as
    /// it has when `heed` does. The thread takes leave of the slot later: clients need not wait for that.
    pub fn wait_for_marker(
        &mut self,
        source: &mut Session,
        id: &str,
        budget: Duration,
        heed: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let deadline = Instant::now() + budget;
        let mut looks = marker::Looks::default();
        while !looks.has_marker(source, id)? {
            if thread.is_finished() || !looks.fit_before(deadline) {
                return self.end(budget);
            }
            heed()?;
            thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// Waits until it has ended, its marker applied.
    pub fn finish(mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let ended =
            thread.join().map_err(|_| Error::Internal { message: "the replay's thread panicked".into() })?;
        ended.map(drop)
    }

    /// Has it end at the next transaction's end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Stops the replay; an error unless it has come to its marker. One that a server keeps from ending is left to end later.
    fn end(&mut self, budget: Duration) -> Result<()> {
        self.stop();
        let deadline = Instant::now() + LEAVE;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let mut detail = "what it waits for does not answer".to_owned();
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            let applied = thread
                .join()
                .map_err(|_| Error::Internal { message: "the replay's thread panicked".into() })??;
            if applied.reached {
                return Ok(());
            }
            detail = format!("{} bytes of WAL are still to be applied", applied.lag_bytes);
        }
        Err(Error::TimedOut {
            what: format!("applying the last changes of the {} flow", self.flow),
            budget,
            detail: Some(detail),
            hint: format!(
                "Run pgdetour {}, then the same command again, or give a longer --max-pause.",
                self.flow
            ),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Whatever it came to, the switch has failed for another reason, which is the one to tell.
            let _ = thread.join();
        }
    }
}
