//! Who carries the mirror's changes once the copy stands, and how one run takes that over from another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::{self, CaptureMethod, MirrorMode};
use crate::error::{Error, Result};
use crate::flow::mapping::Mapping;
use crate::flow::{Flow, Origins, Snapshot, copy};
use crate::pg::Server;
use crate::pg::lock::{Key, Lock};
use crate::pg::record;
use crate::phase::Phase;
use crate::steps::mirror::stages::Stage;
use crate::steps::run::facts::{Carrier, Facts};
use crate::steps::{Run, Signals};

/// How often a run looks whether it was asked to stop.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How long a run elsewhere may take to end what it is in the middle of.
pub const STOP_BUDGET: Duration = Duration::from_secs(60);

/// What the configuration and the options leave open, decided as far as it can be before the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// A subscription where the target can have one, else our own runs.
    #[default]
    Auto,
    /// This one.
    Only(Carrier),
}

impl Choice {
    /// A mirror by way of a backup is all subscriptions; a batch mirror has no flow; one that is followed in the foreground or recorded by triggers is ours.
    pub fn of(config: &config::Config, follow: bool) -> Choice {
        let mirror = &config.mirror;
        if config.target.backup_conninfo.is_some() {
            return Choice::Only(Carrier::Subscription);
        }
        match (mirror.mode, mirror.carrier) {
            (MirrorMode::Batch, _) => Choice::Only(Carrier::Pgdetour),
            _ if follow || mirror.method == CaptureMethod::Trigger => Choice::Only(Carrier::Pgdetour),
            (_, config::Carrier::Auto) => Choice::Auto,
            (_, config::Carrier::Subscription) => Choice::Only(Carrier::Subscription),
            (_, config::Carrier::Pgdetour) => Choice::Only(Carrier::Pgdetour),
        }
    }
}

impl Run {
    /// Who carries the mirror that stands.
    pub fn carrier(&self) -> Result<Carrier> {
        Ok(self.facts()?.carrier.unwrap_or(Carrier::Subscription))
    }

    /// The mirror flow as our own runs apply it.
    pub fn mirror_flow(&mut self) -> Result<Flow> {
        self.flow_of(Stage::Whole)
    }

    /// The flow of one stage as we apply it. Each table's snapshot tells which transactions its copy holds already.
    pub fn flow_of(&mut self, stage: Stage) -> Result<Flow> {
        let mapping = if self.plan.is_dry() { Mapping::default() } else { self.mirror_mapping(stage)? };
        let mut snapshots = HashMap::new();
        for copy in copy::list_table_copies(self.session(stage.subscriber()))? {
            if let Some(snapshot) = &copy.snapshot {
                snapshots.insert(copy.name.clone(), Snapshot::parse(snapshot)?);
            }
        }
        Ok(Flow {
            name: stage.flow(),
            detour: self.detour_id_or_planned()?,
            publisher: self.server(stage.publisher()).clone(),
            subscriber: self.server(stage.subscriber()).clone(),
            source: stage.changes(self.config.mirror.method),
            mapping,
            snapshots,
            passed_over: HashSet::new(),
            left_out: Origins::None,
            batch_bytes: crate::flow::apply::follow::BATCH_BYTES,
            backlog: None,
            quarantine: false,
        })
    }

    /// Takes the right to apply the mirror's changes, from a run that follows in the foreground if there is one:
    /// it is asked to stop, and ends at a transaction's end. Whether there was one.
    pub fn take_flow(&mut self) -> Result<bool> {
        if self.flow_lock.is_some() {
            return Ok(false);
        }
        if self.plan.is_dry() {
            self.target().note("ask a run that follows the source to stop, and wait for its end");
            return Ok(false);
        }
        let server = self.target_server.clone();
        if let Some(lock) = Lock::try_acquire(&server, Key::Flow)? {
            self.flow_lock = Some(lock);
            return Ok(false);
        }
        self.request_stop(true)?;
        let taken = Lock::acquire_within(&server, Key::Flow, STOP_BUDGET, &mut || self.heed_signals());
        self.request_stop(false)?;
        self.flow_lock = Some(taken?);
        Ok(true)
    }

    /// Takes the right to apply the mirror's changes, unless somebody has it.
    pub fn take_free_flow(&mut self) -> Result<()> {
        if self.flow_lock.is_none() && !self.plan.is_dry() {
            self.flow_lock = Some(Lock::acquire(&self.target_server, Key::Flow)?);
        }
        Ok(())
    }

    /// Asks runs of `mirror` to stop, or takes that back.
    pub fn request_stop(&mut self, wanted: bool) -> Result<()> {
        self.add_facts(&Facts { stop_requested: Some(wanted), ..Facts::default() })
    }

    /// Looks, until it is dropped, whether somebody asks this run to stop.
    pub fn watch_for_stop(&mut self) -> Result<Watch> {
        if self.plan.is_dry() {
            return Ok(Watch { thread: None, over: Arc::default() });
        }
        // A request that nobody has heeded is an old one.
        self.request_stop(false)?;
        Ok(Watch::start(self.target_server.clone(), self.signals.clone()))
    }
}

/// A thread that sees a request to stop.
pub struct Watch {
    thread: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start(target: Server, signals: Signals) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut session = None;
            while !ended.load(Ordering::Relaxed) {
                thread::park_timeout(WATCH_INTERVAL);
                // A target that does not answer is seen by the work itself.
                let Some(open) = session.take().or_else(|| target.connect().ok()) else { continue };
                let mut open = open;
                let Ok(detour) = record::read_detour(&mut open) else { continue };
                session = Some(open);
                let facts = detour.as_ref().and_then(|detour| Facts::of(detour).ok()).unwrap_or_default();
                if facts.stop_requested == Some(true) {
                    signals.request_end();
                    return;
                }
            }
        });
        Watch { thread: Some(thread), over }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Refuses what does not go with a phase in which there is no mirror to act on.
pub fn require_mirror(phase: Phase, what: &str) -> Result<()> {
    if matches!(phase, Phase::Mirroring | Phase::Mirrored) {
        return Ok(());
    }
    Err(Error::Refused {
        kind: "no_mirror",
        message: format!("there is no mirror that could be {what} in phase \"{phase}\""),
        detail: None,
        hint: "See \"pgdetour status\" for what can be run.".into(),
    })
}
