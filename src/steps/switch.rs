//! What cutover and cutback share: the hold, the drain, the point of no return, the arrival, taking back.

pub mod answers;
pub mod attempt;
pub mod blockers;
pub mod cutback;
pub mod cutover;
pub mod fencing;
pub mod guardian;
pub mod last_changes;
pub mod lookout;
pub mod opening;
pub mod pause;
pub mod readiness;
pub mod rehearsal;
pub mod routing;
pub mod settling;
pub mod undo;
pub mod writers;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::FenceKind;
use crate::error::{Error, Result};
use crate::flow::sequences::{self, Carried, Sequence, SequencePlan, Untold};
use crate::flow::{ChangeSource, FlowName, marker, subscription};
use crate::output::plural_was;
use crate::pg::fence::FenceUndo;
use crate::pg::lock::Lock;
use crate::pg::{Session, record, sessions};
use crate::phase::{Phase, Serving, Side};
use crate::steps::run::facts::{Carrier, Facts, parse_lsn};
use crate::steps::switch::answers::{Moment, timed};
use crate::steps::switch::last_changes::Running;
use crate::steps::switch::pause::{Bounds, longest_silence};
use crate::steps::switch::undo::Undo;
use crate::steps::{Run, replay};

/// How long a server may say nothing once clients go on.
const CLOSING: Duration = Duration::from_secs(60);

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
    /// Holds general traffic. From here on the phase is `cutting_…`, and everything that takes it back is noted.
    /// `to_close` is the fence of the other side, where clients choose their server themselves; `id` is the switch's.
    pub fn hold_clients(
        &mut self,
        switch: Switch,
        id: &str,
        fence: &FenceUndo,
        to_close: Option<&FenceUndo>,
        bounds: &Bounds,
    ) -> Result<()> {
        self.assert_locked()?;
        self.measure_answers(switch, bounds)?;
        let clients_held = self.routers()?.clients()?;
        self.note_undo(Undo::Resume)?;
        if switch.from == Side::Source && self.carrier()? == Carrier::Subscription {
            self.note_undo(Undo::EnableSubscription)?;
        }
        // Taken back last noted first: clients get in where they were before they could get in elsewhere.
        // A read-only one has stood there since the mirror, and goes on to.
        if let Some(fence) = to_close.filter(|fence| fence.kind == FenceKind::Closed) {
            self.note_undo(Undo::LowerFence { side: switch.to(), fence: fence.clone() })?;
        }
        self.note_undo(Undo::LowerFence { side: switch.from, fence: fence.clone() })?;
        // A clean that had begun is over: all that the switch needs is there.
        let cleaning = self.facts()?.cleaning.map(|_| false);
        self.add_facts(&Facts {
            switch: Some(id.to_owned()),
            held_at: Some(milliseconds_since_epoch()),
            clients_held: Some(clients_held),
            cleaning,
            ..Facts::default()
        })?;
        // One round trip less while they wait; a router that can be asked is asked who serves in between.
        self.enter_phase(switch.moving, Serving::Nobody, None)?;
        self.guard_hold();
        if !self.plan.is_dry() {
            self.part_way = true;
            self.changed |= bounds.rehearsal.is_none();
            self.held_since = Some(Instant::now());
        }
        let deadline = self.pause_deadline(switch, bounds);
        self.lose_patience(self.patience_deadline(), longest_silence(bounds.max_pause));
        let ending = (bounds.rehearsal.is_none()).then_some(bounds.terminate_after).flatten();
        let held = match ending {
            Some(after) if !self.plan.is_dry() => self.hold_and_end(switch.from, deadline, after),
            _ => {
                let signals = self.signals.clone();
                self.routers()?.hold(deadline, &|| signals.heed())
            }
        };
        held.map_err(|error| self.name_blockers(switch.from, error))
    }

    /// Holds clients at the router; transactions that are open for longer than `after` from now on are ended on the server.
    fn hold_and_end(&mut self, side: Side, deadline: Instant, after: Duration) -> Result<()> {
        let roles = self.config.general_roles(side);
        self.routers()?;
        let signals = self.signals.clone();
        let Run { routers: Some(routers), source: Some(source), target: Some(target), .. } = self else {
            unreachable!("open() connected to both sides, and the line above to the routers")
        };
        let session = if side == Side::Source { source } else { target };
        let due = Instant::now() + after;
        let (held, ended) = thread::scope(|scope| {
            let holding = scope.spawn(|| routers.hold(deadline, &|| signals.heed()));
            while !holding.is_finished() && Instant::now() < due {
                thread::sleep(Duration::from_millis(1));
            }
            let ended =
                if holding.is_finished() { Ok(0) } else { sessions::end_transactions(session, &roles) };
            (self::ended(holding), ended)
        });
        held?;
        self.ended_transactions += ended?;
        Ok(())
    }

    /// Prepares what is run while clients are held, so that each statement is one round trip.
    pub fn prepare_statements(&mut self, switch: Switch) -> Result<()> {
        let (source, target) = self.both();
        source.prepare(&marker::DRAINING)?;
        target.prepare(&marker::DRAINING)?;
        target.prepare(&record::DECIDING)?;
        if switch.from == Side::Source {
            target.prepare(&subscription::STOPPING)?;
            if let Some(backup) = &mut self.backup {
                backup.prepare(&subscription::STOPPING)?;
            }
        }
        Ok(())
    }

    /// Carries sequences ahead: to their namesakes, on the way home to those of the columns that the mapping gives their values to.
    pub fn plan_sequences(&mut self, switch: Switch) -> Result<SequencePlan> {
        let (from, to) = (switch.from, switch.to());
        if from == Side::Source {
            return sequences::plan(self.server(from), self.server(to), None);
        }
        let mapping = replay::checked_mapping(self)?;
        sequences::plan(self.server(from), self.server(to), Some(&mapping))
    }

    /// Sequences of the target whose values nothing on the source would take, and those of the source of which nobody can tell in a
    /// moment what they have to give next.
    pub fn unfit_sequences(&mut self) -> Result<(Vec<Sequence>, Vec<Untold>)> {
        let Some(mapping) = self.checked_mapping.take() else { return Ok(Default::default()) };
        let (source, target) = self.both();
        let unfit = sequences::list_unfit(target, source, &mapping);
        self.checked_mapping = Some(mapping);
        unfit
    }

    /// Ends what general roles still have open on the side that has been fenced: idle sessions at once,
    /// transactions when they finish by themselves, or after `terminate_after`.
    pub fn end_general_sessions(&mut self, switch: Switch, side: Side, bounds: &Bounds) -> Result<()> {
        if bounds.rehearsal.is_some() {
            return self.tell_of_direct_sessions(side);
        }
        // Looked for when the fence was raised.
        if self.none_left.take() != Some(side) || self.ended_transactions > 0 {
            self.end_sessions(switch, side, bounds)?;
        }
        // Afterwards: they may be waiting for a lock that one of these had, and nothing else would have ended it.
        self.end_writers(switch, bounds)
    }

    fn end_sessions(&mut self, switch: Switch, side: Side, bounds: &Bounds) -> Result<()> {
        self.require_time(switch, bounds, Moment::Ending)?;
        let deadline = self.pause_deadline(switch, bounds);
        let roles = self.config.general_roles(side);
        let terminate_after = bounds.terminate_after;
        let begun = Instant::now();
        let kind = self.fence_kind(side)?;
        let signals = self.signals.clone();
        let heed = || signals.heed();
        let session = self.session(side);
        let ended = sessions::end_sessions(session, &roles, kind, deadline, terminate_after, &heed)?;
        self.answers.note(side, ended.last_look);
        if let Err(error) = ended.require_all(deadline.saturating_duration_since(begun)) {
            self.report = Some(json!({ "blockers": ended.left }));
            return Err(error);
        }
        let in_transaction = ended.in_transaction + self.ended_transactions;
        if in_transaction > 0 {
            self.warn(format!("{in_transaction} open transactions of general roles were ended"));
        }
        Ok(())
    }

    /// Writes the marker that proves the drain, if there is time for one; meanwhile, in a session of its own, looks where the
    /// sequences stand.
    pub fn write_marker(
        &mut self,
        switch: Switch,
        id: &str,
        plan: &mut SequencePlan,
        bounds: &Bounds,
    ) -> Result<()> {
        self.require_time(switch, bounds, Moment::Marker)?;
        let flow = match switch.from {
            Side::Source => FlowName::Mirror,
            Side::Target => FlowName::Replay,
        };
        let session = self.session(switch.from);
        if session.is_dry() {
            marker::write_marker(session, flow, id)?;
            return plan.look();
        }
        let took = thread::scope(|scope| {
            let looking = scope.spawn(|| plan.look());
            let written = timed(|| marker::write_marker(session, flow, id));
            let looked = ended(looking);
            written.and_then(|took| looked.map(|()| took))
        })?;
        self.answers.note(switch.from, took);
        Ok(())
    }

    /// Waits until the marker has come through, by the flow of this run or the subscription's. Meanwhile, in sessions
    /// of their own: the sequences are set, the position is noted from which on writes are late, and locks and routers are
    /// asked whether they are still there.
    pub fn drain(
        &mut self,
        switch: Switch,
        changes: &ChangeSource,
        plan: &mut SequencePlan,
        marker: &str,
        bounds: &Bounds,
    ) -> Result<()> {
        self.require_time(switch, bounds, Moment::Drain)?;
        let budget = self.pause_left(switch, bounds);
        let routers = self.routers.as_mut().filter(|_| self.held_since.is_some());
        let locks = self.locks.iter_mut().chain(self.flow_lock.as_mut());
        let (Some(source), Some(target)) = (&mut self.source, &mut self.target) else {
            unreachable!("open() connected to both sides, which this command needs")
        };
        let (replaying, signals) = (&mut self.replaying, &self.signals);
        let mut wait = |to: &mut Session| match replaying {
            Some(flow) => flow.wait_for_marker(to, marker, budget, &|| signals.heed()),
            None => signals.heed_while(budget, |turn| marker::wait_for_marker(to, marker, turn)),
        };
        let (from, to) = match switch.from {
            Side::Source => (source, target),
            Side::Target => (target, source),
        };
        let answers = &mut self.answers;
        let (waited, position, carried) = if self.plan.is_dry() {
            (wait(to), changes.end(from), plan.carry())
        } else {
            thread::scope(|scope| {
                let carrying = scope.spawn(|| plan.carry());
                let noting = scope.spawn(|| changes.end(from));
                let asking = routers.map(|routers| scope.spawn(|| timed(|| routers.answer())));
                let looking: Vec<_> =
                    locks.map(|lock| (lock.place(), scope.spawn(|| timed(|| lock.assert_held())))).collect();
                let waited = wait(to);
                let mut held = Ok(());
                for (place, looking) in looking {
                    let looked = ended(looking).map(|took| answers.note(place, took));
                    held = held.and(looked);
                }
                let asked = asking.map_or(Ok(Duration::ZERO), ended);
                let asked = asked.map(|took| answers.note_router(took));
                (waited.and(held).and(asked), ended(noting), ended(carrying))
            })
        };
        waited?;
        self.pending.switch_position = Some(position?.to_string());
        self.tell_of_sequences(&carried?);
        // Behind the last change, which may have brought the furthest value.
        self.tell_of_sequences(&plan.go_past_columns()?);
        Ok(())
    }

    /// The point of no return. Everything after it goes forwards only, in this run or the next.
    pub fn decide(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        self.heed_signals()?;
        self.require_time(switch, bounds, Moment::Decision)?;
        if switch.to() == Side::Target {
            // In the WAL the decision itself can tell where it is.
            if let ChangeSource::Triggers = self.recording() {
                let start = ChangeSource::Triggers.end(self.target())?;
                self.pending.capture_start = Some(start.to_string());
            }
        }
        self.deciding = true;
        self.guard_decision();
        let facts = json!(self.pending);
        let lock = self.locks.iter().find(|lock| lock.place() == Side::Target).map_or(0, Lock::backend);
        let decided = self.decide_and_begin_to_open(switch, &facts, lock);
        if self.plan.is_dry() {
            return decided.map(drop);
        }
        if !matches!(decided, Ok(Some(_))) {
            self.give_up_opening();
        }
        let decided = decided?;
        self.pending = Facts::default();
        let (Some(facts), Some(detour)) = (decided, &mut self.detour) else {
            return Err(Error::Busy {
                on: Side::Target.name().into(),
                holder: "the lock was lost while clients were held, and another run may have it".into(),
            });
        };
        detour.facts = facts;
        detour.serving = Serving::Nobody;
        detour.decided = Some(switch.to());
        Ok(())
    }

    /// Lets clients go on, on the side decided on, and takes the length of the pause.
    pub fn resume_clients(&mut self, switch: Switch) -> Result<()> {
        let is_known = self.plan.is_dry() || self.held_since.is_some() || self.clients_are_held()?;
        self.routers()?.resume()?;
        self.end_guard();
        // Nobody waits any more but the run itself, and that not for ever.
        self.lose_patience(Instant::now(), CLOSING);
        if self.plan.is_dry() {
            return Ok(());
        }
        let facts = self.facts()?;
        let held_at = facts.held_at.unwrap_or_default();
        let pause = match (self.held_since.take(), facts.resumed_at) {
            (Some(held), _) => held.elapsed(),
            // Another run held them, and died: the clock has to do.
            (None, Some(resumed_at)) if resumed_at >= held_at => Duration::from_millis(resumed_at - held_at),
            (None, _) => {
                if !is_known {
                    self.warn("clients went on before this run, which cannot tell when: pause_ms is the longest that it can have been");
                }
                Duration::from_millis(milliseconds_since_epoch().saturating_sub(held_at))
            }
        };
        self.pause_ms = Some(pause.as_secs_f64() * 1000.0);
        let resumed = Facts { resumed_at: Some(held_at + pause.as_millis() as u64), ..Facts::default() };
        self.enter_phase_with(switch.moving, switch.to().into(), Some(switch.to()), &resumed)?;
        self.settle_routers();
        Ok(())
    }

    /// Waits for the end of the replay that this run has begun; the run before may have died with its own.
    pub fn end_replay(&mut self) {
        if let Some(Err(error)) = self.replaying.take().map(Running::finish) {
            // Its marker was applied before the decision: nothing is missing on the source.
            self.warn(format!("the replay did not end well after its last change: {error}"));
        }
    }

    /// Row changes that were committed on the side left behind after the marker. Admins' own work is seen too.
    pub fn count_late_writes(&mut self, switch: Switch, source: &ChangeSource) -> Result<()> {
        self.end_replay();
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
            let whose = match self.fence_kind(switch.from)? {
                FenceKind::Closed => "not by clients of general roles, which were fenced",
                FenceKind::ReadOnly => "by other roles, or by clients that write whatever the fence says",
            };
            self.warn(format!(
                "{} committed on the {} after its last change had been carried over: {whose}",
                plural_was(late.cast_unsigned(), "row change"),
                switch.from
            ));
        }
        self.tell_of_writers(switch)?;
        self.late_writes = late;
        self.add_facts(&Facts { late_writes: Some(late), ..Facts::default() })
    }

    /// Records that the switch is over; its report.
    pub fn arrive(&mut self, switch: Switch) -> Result<Value> {
        self.forget_undo()?;
        let facts = self.facts()?;
        let mut report = json!({
            "pause_ms": self.pause_ms.map(|ms| (ms * 10.0).round() / 10.0),
            "steps": self.steps_report(),
            "late_writes": self.late_writes,
            "clients_held": facts.clients_held.unwrap_or(0),
        });
        if !self.routers()?.moves_clients() {
            report["moved_by"] = match (self.config.router.clients_choose, self.moved_by_operator) {
                (true, _) => json!("clients"),
                (false, true) => json!("operator"),
                (false, false) => Value::Null,
            };
        }
        if self.attempts > 1 {
            report["attempts"] = json!(self.attempts);
        }
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

    /// Warns of sequences that could not take their values.
    fn tell_of_sequences(&mut self, carried: &[Carried]) {
        for sequence in carried {
            let why = match sequence.outcome {
                sequences::Outcome::Set | sequences::Outcome::Kept | sequences::Outcome::Computed => continue,
                sequences::Outcome::Missing => {
                    "does not exist on the other side; its value was not carried over"
                }
                sequences::Outcome::OutOfRange => {
                    "has other limits on the other side; its value was not carried over"
                }
                sequences::Outcome::Exhausted => {
                    "has nothing left to give past the furthest value of its column"
                }
            };
            self.warn(format!("sequence \"{}\" {why}", sequence.name));
        }
    }
}

fn milliseconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What a thread came to.
pub fn ended<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Error::Internal { message: "a thread of the drain panicked".into() }))
}
