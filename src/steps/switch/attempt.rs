//! Attempts of a switch: each is taken back whole before the next, also when a server or a connection went away.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result, human};
use crate::pg::lock::{Key, Lock};
use crate::pg::{Server, Session, record};
use crate::routers::{RouterState, Routers};
use crate::steps::Run;
use crate::steps::switch::Switch;
use crate::steps::switch::lookout::Lookout;
use crate::steps::switch::pause::Bounds;

/// Between two tries to reach it.
const RECONNECT_EVERY: Duration = Duration::from_millis(20);
/// How long the first try to reach it may take at least.
const FIRST_TRY: Duration = Duration::from_millis(500);
/// Before the second attempt; twice as long before each further one, give or take half of it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts, before chance.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Run {
    /// Takes back what an earlier run of this switch left when it died before its point of no return.
    pub fn take_back_earlier_attempt(&mut self, switch: Switch) -> Result<()> {
        if self.phase() == switch.moving && !self.is_decided() && !self.plan.is_dry() {
            self.detour = record::bar_decision(self.target())?;
        }
        self.heed_the_source(switch)?;
        if self.phase() != switch.moving || self.is_decided() {
            return Ok(());
        }
        self.step("take back the earlier attempt", |run| run.take_back(switch.settled, switch.from))?;
        (self.part_way, self.changed) = (false, true);
        Ok(())
    }

    /// Runs everything before the point of no return. A failure there is taken back and returned, or tried again when a
    /// bound was exceeded and retries are left. Ends well when the switch is decided.
    pub fn attempt(
        &mut self,
        switch: Switch,
        bounds: &Bounds,
        mut work: impl FnMut(&mut Run) -> Result<()>,
    ) -> Result<()> {
        loop {
            self.attempts += 1;
            self.restore_patience();
            self.look_out(switch);
            let Err(error) = work(self) else {
                self.lookout = None;
                return Ok(());
            };
            let error = self.name_apply_blockers(switch, error);
            self.wait_for_locks_until(Some(Instant::now()));
            // Ended later: what it waits for need not keep clients waiting.
            if let Some(flow) = &self.replaying {
                flow.stop();
            }
            let is_late = self.held_since.is_some() && Instant::now() >= self.patience_deadline();
            let in_the_way = self.lookout.as_ref().map(Lookout::blockers).unwrap_or_default();
            self.fall_back(switch, &error);
            if !self.is_decided() {
                self.replaying = None;
            }
            self.lookout = None;
            let are_back = self.held_since.is_none() && self.serving() == switch.from.into();
            if is_late && error.is_connection_lost() && are_back {
                // Clients are where they were; the record may tell later.
                self.part_way = false;
                return Err(self.blame(without_an_answer(&error, bounds), &in_the_way));
            }
            if self.is_decided() {
                self.warn(format!("the switch had been decided when this went wrong: {error}"));
                return Ok(());
            }
            let is_bound = matches!(error, Error::TimedOut { .. });
            if !is_bound || self.phase() != switch.settled || self.attempts > bounds.retries {
                return Err(error);
            }
            let wait = wait_after(self.attempts);
            let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            self.warn(format!(
                "attempt {} was taken back: {error}{detail}; the next begins in {}",
                self.attempts,
                human(wait)
            ));
            self.steps.clear();
            self.unwritten_steps = 0;
            self.report = None;
            let due = Instant::now() + wait;
            while Instant::now() < due {
                self.heed_signals()?;
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn look_out(&mut self, switch: Switch) {
        self.lookout = (!self.plan.is_dry()).then(|| Lookout::begin(self.server(switch.to()).clone()));
    }

    /// When what waits for a lock on the side that takes over gives up; the server's limit alone holds with none.
    pub fn wait_for_locks_until(&self, deadline: Option<Instant>) {
        if let Some(lookout) = &self.lookout {
            lookout.end_waits_at(deadline);
        }
    }

    /// Takes back what an attempt has done, unless it was decided; tells what could not be taken back.
    fn fall_back(&mut self, switch: Switch, error: &Error) {
        if self.phase() != switch.moving || self.is_decided() {
            return;
        }
        // Clients first, from what this process knows: the record may be slow, or away.
        let is_lost = error.is_connection_lost();
        if is_lost && let Err(second) = self.reconnect_lost_sessions(switch) {
            if matches!(second, Error::Busy { .. }) {
                self.warn(format!("another run has taken over: {second}"));
                return;
            }
            if self.deciding {
                self.settle_without_the_target(switch, &second);
                return;
            }
            self.release_clients(switch);
            self.warn(format!("the record still shows a switch in progress: {second}"));
            return;
        }
        if !self.is_decided() {
            self.take_back_attempt(switch);
        }
    }

    /// Takes back what an attempt has done over the sessions as they are; tells what could not be taken back.
    pub fn take_back_attempt(&mut self, switch: Switch) {
        let known = self.undos.clone();
        match self.take_back(switch.settled, switch.from) {
            Ok(()) => {
                self.part_way = false;
                self.changed = false;
            }
            Err(second) => {
                self.leave_to_the_guardian(&known);
                self.warn(format!("not everything could be taken back: {second}"));
                self.report_who_goes_on(switch);
            }
        }
    }

    /// A router that does not answer keeps nobody of another one from being served, as `status` has it, too.
    fn report_who_goes_on(&mut self, switch: Switch) {
        let side = switch.from;
        let states = self.routers().map(Routers::ask_states).unwrap_or_default();
        let answering: Vec<RouterState> = states.into_iter().flatten().collect();
        let goes_on = |state: &RouterState| !state.held && state.side == Some(side);
        if !answering.is_empty() && answering.iter().all(goes_on) && self.is_fenced(side) == Some(false) {
            self.reported = Some((self.phase(), Some(side.into())));
        }
    }

    /// Opens lost sessions and locks anew, so that a failure can be taken back, and reads again what the record decided:
    /// the answer to the deciding statement may be what was lost. A source that stays away is left out.
    fn reconnect_lost_sessions(&mut self, switch: Switch) -> Result<()> {
        let deadline = self.reach_deadline();
        let (source, target) = thread::scope(|scope| {
            let connecting = scope.spawn(|| connect_until(&self.source_server, deadline));
            let target = connect_until(&self.target_server, deadline);
            let died = |_| Err(Error::Internal { message: "a connection panicked".into() });
            (connecting.join().unwrap_or_else(died), target)
        });
        let source = source.ok();
        let source_answers = source.is_some();
        self.source = source.or_else(|| self.source.take());
        let target = target?;
        self.target = Some(target);
        // Whoever has taken the lock meanwhile takes back himself.
        self.locks.clear();
        self.flow_lock = None;
        self.locks.push(Lock::acquire(&self.target_server, Key::Run)?);
        if source_answers && let Ok(lock) = Lock::acquire(&self.source_server, Key::Run) {
            self.locks.push(lock);
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
}

/// Tries until then, and at least once: with little time by then, since clients wait.
pub fn connect_until(server: &Server, deadline: Instant) -> Result<Session> {
    let mut least = FIRST_TRY;
    loop {
        let mut server = server.clone();
        server.conninfo.give_up_within(deadline.saturating_duration_since(Instant::now()).max(least));
        match server.connect() {
            Err(_) if Instant::now() + RECONNECT_EVERY < deadline => thread::sleep(RECONNECT_EVERY),
            outcome => return outcome,
        }
        least = RECONNECT_EVERY;
    }
}

/// A server that kept its connections open and said nothing until the pause was too long.
fn without_an_answer(error: &Error, bounds: &Bounds) -> Error {
    Error::TimedOut {
        what: "the pause".into(),
        budget: bounds.max_pause,
        detail: Some(error.with_cause()),
        hint: "Clients go on where they were. See why the server does not answer, then run the same command again.".into(),
    }
}

/// Twice as long each time, give or take half of it, so that two who wait do not meet again.
fn wait_after(attempt: u32) -> Duration {
    let base = (FIRST_WAIT * 2_u32.saturating_pow(attempt - 1)).min(LONGEST_WAIT);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    base.mul_f64(0.5 + f64::from(nanoseconds % 1000) / 1000.0)
}
