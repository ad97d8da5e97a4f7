//! The source's schema, read in a thread of its own while the preconditions are checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::SchemaMode;
use crate::error::{Error, Result};
use crate::flow::copy::{Draft, Receiver};
use crate::pg::Session;
use crate::phase::Phase;
use crate::steps::Run;

/// How often it is looked whether the schema has been read, or the run is to end.
const GLANCE: Duration = Duration::from_millis(2);

/// The schema on its way. Dropping it ends that.
pub struct Drafting {
    thread: Option<JoinHandle<Result<Draft>>>,
    read: Option<Draft>,
    stop: Arc<AtomicBool>,
}

impl Drafting {
    /// Begins to read it for the first stage, where this run is to make its tables. What the checks find comes first: a
    /// failure is told by [`Drafting::finish`] alone.
    pub fn start(run: &mut Run) -> Result<Option<Drafting>> {
        if run.plan.is_dry() || run.phase() != Phase::Absent || run.config.mirror.schema != SchemaMode::Dump {
            return Ok(None);
        }
        let stage = run.stages()[0];
        let tables = run.selected_tables(stage.publisher())?;
        let left_empty = run.unlogged_tables()?;
        let publisher = run.server(stage.publisher()).clone();
        let receiver = Receiver::ask(run.session(stage.subscriber()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let work = move || Draft::read(&publisher, receiver, &tables, &left_empty, &asked);
        let thread = thread::Builder::new().name("read the schema".to_owned()).spawn(work);
        let thread = thread.map_err(Error::io("start a thread"))?;
        Ok(Some(Drafting { thread: Some(thread), read: None, stop }))
    }

    /// Refuses, before anything is made, what the first subscriber is too old to have. That takes the time of making it twice,
    /// and so is done for an older one alone.
    pub fn try_out(&mut self, run: &mut Run) -> Result<()> {
        let (stage, major) = (run.stages()[0], |session: &Session| session.version / 10_000);
        if major(run.session(stage.publisher())) <= major(run.session(stage.subscriber())) {
            return Ok(());
        }
        let draft = self.wait(&run.signals.stop_flag());
        run.heed_signals()?;
        let draft = draft?;
        let tried = draft.try_out(run.session(stage.subscriber()));
        self.read = Some(draft);
        tried
    }

    /// Waits for it; ends early when `stop` is set.
    pub fn finish(mut self, stop: &AtomicBool) -> Result<Draft> {
        self.wait(stop)
    }

    fn wait(&mut self, stop: &AtomicBool) -> Result<Draft> {
        if let Some(draft) = self.read.take() {
            return Ok(draft);
        }
        let died = || Error::Internal { message: "the thread that read the schema died".into() };
        let thread = self.thread.take().ok_or_else(died)?;
        while !thread.is_finished() {
            if stop.load(Ordering::Relaxed) {
                self.stop.store(true, Ordering::Relaxed);
            }
            thread::sleep(GLANCE);
        }
        thread.join().unwrap_or_else(|_| Err(died()))
    }
}

impl Drop for Drafting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The run ends for another reason, which it tells of.
            let _ = thread.join();
        }
    }
}
