//! What cutover and cutback share: the hold, the drain, the point of no return, the arrival, taking back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::flow::sequences::{self, SequencePlan};
use crate::flow::{ChangeSource, FlowName, marker};
use crate::pg::fence::{self, FenceUndo};
use crate::pg::{record, sessions};
use crate::phase::{Phase, Serving, Side};
use crate::steps::Run;
use crate::steps::carrier::Carrier;
use crate::steps::facts::{Facts, parse_lsn};
use crate::steps::undo::Undo;

/// The bounds of a switch.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest time for which clients may be held; over it, all is taken back.
    pub max_pause: Duration,
    /// Bytes of WAL by which the flow may lag when the hold begins.
    pub max_lag: u64,
    /// Longest wait, with clients still served, until the lag is that small.
    pub drain_timeout: Duration,
    /// After this long in the hold, open transactions of general roles are ended; never when absent.
    pub terminate_after: Option<Duration>,
}

/// A move of general traffic from one side to the other.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// Who serves before it.
    pub from: Side,
    /// The phase to which it is taken back.
    pub settled: Phase,
    /// The phase while it runs.
    pub moving: Phase,
    /// The phase after it.
    pub arrived: Phase,
}

/// source → target.
pub const OUT: Switch = Switch {
    from: Side::Source,
    settled: Phase::Mirrored,
    moving: Phase::CuttingOver,
    arrived: Phase::Detoured,
};

/// target → source.
pub const HOME: Switch = Switch {
    from: Side::Target,
    settled: Phase::Detoured,
    moving: Phase::CuttingBack,
    arrived: Phase::Returned,
};

impl Switch {
    /// Who serves after it.
    pub fn to(self) -> Side {
        self.from.other()
    }
}

impl Run {
    /// Takes back what an earlier run of this switch left when it died before its point of no return.
    pub fn take_back_earlier_attempt(&mut self, switch: Switch) -> Result<()> {
        if self.phase() != switch.moving || self.is_decided() {
            return Ok(());
        }
        self.step("take back the earlier attempt", |run| run.take_back(switch.settled, switch.from))
    }

    /// Runs everything before the point of no return. A failure there is taken back and returned;
    /// past that point it is returned as it is, and the same command goes on from the record.
    pub fn attempt(&mut self, switch: Switch, work: impl FnOnce(&mut Run) -> Result<()>) -> Result<()> {
        let Err(error) = work(self) else { return Ok(()) };
        if self.phase() != switch.moving || self.is_decided() {
            return Err(error);
        }
        if error.is_connection_lost() {
            self.reconnect_lost_sessions(switch)?;
            if self.is_decided() {
                return Err(error);
            }
        }
        match self.take_back(switch.settled, switch.from) {
            Ok(()) => {
                self.part_way = false;
                self.changed = false;
            }
            Err(second) => self.warn(format!("not everything could be taken back: {second}")),
        }
        Err(error)
    }

    /// Opens lost sessions anew, so that a failure can be taken back, and reads again what the record decided:
    /// the answer to the deciding statement may be what was lost.
    fn reconnect_lost_sessions(&mut self, switch: Switch) -> Result<()> {
        if let Ok(session) = self.source_server.connect() {
            self.source = Some(session);
        }
        let deadline = self.held_since.map_or_else(Instant::now, |held| held + RECONNECT_BUDGET);
        loop {
            match self.target_server.connect() {
                Ok(session) => {
                    self.target = Some(session);
                    break;
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.detour = record::read_detour(self.target())?;
        if self.is_decided() {
            self.warn(format!(
                "the switch to the {} had been decided when the connection broke",
                switch.to()
            ));
        }
        Ok(())
    }

    /// Reads what raising the fence needs, and what lowering it will restore.
    pub fn plan_fence(&mut self, side: Side) -> Result<FenceUndo> {
        let roles = self.config.traffic.roles.clone();
        let fence = fence::plan_fence(self.session(side), &roles)?;
        let facts = match side {
            Side::Source => Facts { source_fence: Some(fence.clone()), ..Facts::default() },
            Side::Target => Facts { target_fence: Some(fence.clone()), ..Facts::default() },
        };
        self.add_facts(&facts)?;
        Ok(fence)
    }

    /// Holds general traffic. From here on the phase is `cutting_…`, and everything that takes it back is noted.
    pub fn hold_clients(&mut self, switch: Switch, fence: &FenceUndo, bounds: &Bounds) -> Result<()> {
        self.assert_locked()?;
        let clients_held = self.routers()?.clients()?;
        self.note_undo(&Undo::Resume)?;
        if switch.from == Side::Source && self.carrier()? == Carrier::Subscription {
            self.note_undo(&Undo::EnableSubscription)?;
        }
        self.note_undo(&Undo::LowerFence { side: switch.from, fence: fence.clone() })?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.add_facts(&Facts {
            held_at: Some(since_epoch.as_millis() as u64),
            clients_held: Some(clients_held),
            ..Facts::default()
        })?;
        self.enter_phase(switch.moving, switch.from.into(), None)?;
        if !self.plan.is_dry() {
            self.part_way = true;
            self.changed = true;
            self.held_since = Some(Instant::now());
        }
        let deadline = self.pause_deadline(bounds);
        self.routers()?.hold(deadline)?;
        self.enter_phase(switch.moving, Serving::Nobody, None)
    }

    /// Where the budget of the pause ends.
    pub fn pause_deadline(&self, bounds: &Bounds) -> Instant {
        self.held_since.unwrap_or_else(Instant::now) + bounds.max_pause
    }

    /// Ends what general roles still have open on the side that has been fenced: idle sessions at once,
    /// transactions when they finish by themselves, or after `terminate_after`.
    pub fn end_general_sessions(&mut self, side: Side, bounds: &Bounds) -> Result<()> {
        let deadline = self.pause_deadline(bounds);
        let roles = self.config.traffic.roles.clone();
        let ended = sessions::end_sessions(self.session(side), &roles, deadline, bounds.terminate_after)?;
        if ended.in_transaction > 0 {
            self.warn(format!("{} open transactions of general roles were ended", ended.in_transaction));
        }
        Ok(())
    }

    /// Writes the marker that proves the drain, and notes where it is.
    pub fn write_marker(&mut self, switch: Switch, source: &ChangeSource, id: &str) -> Result<()> {
        let flow = match switch.from {
            Side::Source => FlowName::Mirror,
            Side::Target => FlowName::Replay,
        };
        let publisher = self.session(switch.from);
        marker::write_marker(publisher, flow, id)?;
        let position = source.end(publisher)?;
        self.pending.switch_position = Some(position.to_string());
        Ok(())
    }

    /// What is left of the budget of the pause; nothing when it is used up.
    pub fn pause_left(&self, bounds: &Bounds) -> Duration {
        self.pause_deadline(bounds).saturating_duration_since(Instant::now())
    }

    /// The point of no return. Everything after it goes forwards only, in this run or the next.
    pub fn decide(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        self.heed_signals()?;
        if !self.plan.is_dry() && Instant::now() >= self.pause_deadline(bounds) {
            return Err(Error::TimedOut {
                what: "the pause".into(),
                budget: bounds.max_pause,
                detail: Some(self.slowest_step()),
                hint: "Clients go on where they were. Give a longer --max-pause, or run it again at a quieter time."
                    .into(),
            });
        }
        self.assert_locked()?;
        let facts = std::mem::take(&mut self.pending);
        self.enter_phase_with(switch.moving, Serving::Nobody, Some(switch.to()), &facts)
    }

    fn slowest_step(&self) -> String {
        let slowest = self.steps.iter().max_by(|a, b| a.ms.total_cmp(&b.ms));
        slowest.map_or_else(String::new, |step| {
            format!("the slowest step was \"{}\", {:.0} ms", step.name, step.ms)
        })
    }

    /// Lets clients go on, on the side decided on, and takes the length of the pause.
    pub fn resume_clients(&mut self, switch: Switch) -> Result<()> {
        self.routers()?.resume()?;
        if self.plan.is_dry() {
            return Ok(());
        }
        self.pause_ms = Some(match (self.held_since.take(), self.facts()?.held_at) {
            (Some(held), _) => held.elapsed().as_secs_f64() * 1000.0,
            // Another run held them, and died: its clock has to do.
            (None, Some(held_at)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (now.as_millis() as f64 - held_at as f64).max(0.0)
            }
            (None, None) => 0.0,
        });
        self.enter_phase(switch.moving, switch.to().into(), Some(switch.to()))
    }

    /// Row changes that were committed on the side left behind after the marker. Admins' own work is seen too.
    pub fn count_late_writes(&mut self, switch: Switch, source: &ChangeSource) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        let facts = self.facts()?;
        let Some(position) = facts.switch_position else { return Ok(()) };
        if !source.exists(self.session(switch.from))? {
            // A run that died had counted them, and dropped what recorded them.
            self.late_writes = facts.late_writes.unwrap_or(0);
            return Ok(());
        }
        let position = parse_lsn(&position)?;
        let late = source.count_later(self.session(switch.from), position)?;
        if late > 0 {
            self.warn(format!(
                "{late} row changes were committed on the {} after its last change had been carried over: \
                 not by general roles, which were fenced",
                switch.from
            ));
        }
        self.late_writes = late;
        self.add_facts(&Facts { late_writes: Some(late), ..Facts::default() })
    }

    /// Records that the switch is over; its report.
    pub fn arrive(&mut self, switch: Switch) -> Result<Value> {
        self.forget_undo()?;
        let facts = self.facts()?;
        let report = json!({
            "pause_ms": self.pause_ms.map(|ms| (ms * 10.0).round() / 10.0),
            "steps": self.steps_report(),
            "late_writes": self.late_writes,
            "clients_held": facts.clients_held.unwrap_or(0),
        });
        let kept = match switch.to() {
            Side::Target => Facts { cutover: Some(report.clone()), ..Facts::default() },
            Side::Source => Facts { cutback: Some(report.clone()), ..Facts::default() },
        };
        self.add_facts(&kept)?;
        self.enter_phase(switch.arrived, switch.to().into(), None)?;
        self.stamp_phase()?;
        self.note_event(&format!("general traffic is on the {}", switch.to()));
        self.part_way = false;
        Ok(report)
    }

    /// Carries the sequences' values over, and warns of those that could not take theirs.
    pub fn carry_sequences(&mut self, plan: &mut SequencePlan) -> Result<()> {
        for sequence in plan.carry()? {
            let why = match sequence.outcome {
                sequences::Outcome::Set | sequences::Outcome::Kept => continue,
                sequences::Outcome::Missing => "does not exist on the other side",
                sequences::Outcome::OutOfRange => "has other limits on the other side",
            };
            self.warn(format!("sequence \"{}\" {why}; its value was not carried over", sequence.name));
        }
        Ok(())
    }
}

/// How long to try to reach the target again when it was lost while clients are held.
const RECONNECT_BUDGET: Duration = Duration::from_secs(10);
