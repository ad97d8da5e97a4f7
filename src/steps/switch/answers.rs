//! How long answers take while clients wait, and whether those that a switch has yet to wait for fit into its pause.
//!
//! With a network that takes two seconds there and back, the budget of a pause may be over long before anything fails. What
//! cannot end within it is not begun, or given up while there is still time for the way back.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, human};
use crate::phase::{Place, Side};
use crate::steps::Run;
use crate::steps::switch::pause::Bounds;
use crate::steps::switch::{Switch, ended};

/// How often a slow answer is asked for again before it is believed.
const ATTEMPTS: usize = 3;
/// An answer that takes less does not count.
const QUICK: Duration = Duration::from_millis(100);

/// How long the last answer took, of everybody whom clients wait for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    source: Duration,
    target: Duration,
    router: Duration,
}

/// A moment of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Clients are about to be held.
    Hold,
    /// The fence stands, and sessions behind it are to be ended.
    Ending,
    /// The marker is to be written.
    Marker,
    /// The marker is to come through.
    Drain,
    /// The mirror is to be stopped.
    StopMirror,
    /// The switch is to be decided.
    Decision,
}

/// Answers that are waited for, one after the other.
struct Trips {
    /// Of the side that is left.
    from: u32,
    /// Of the side that takes over.
    to: u32,
    router: u32,
}

/// From a moment on until clients go on.
fn trips_ahead(switch: Switch, moment: Moment) -> Trips {
    // The fence, the end of sessions, the marker, and the locks that are looked at while it comes through.
    let from = match moment {
        Moment::Hold => 4,
        Moment::Ending => 3,
        Moment::Marker => 2,
        Moment::Drain => 1,
        Moment::StopMirror | Moment::Decision => 0,
    };
    // PgBouncer's: RELOAD with its proof, then RESUME. Before them SHOW POOLS, PAUSE and its proof.
    let router = if moment == Moment::Hold { 5 } else { 2 };
    match (switch.from, moment) {
        // The target decides, before that it ends the mirror, and before that it is asked for the marker.
        (Side::Source, Moment::Decision) => Trips { from, to: 1, router },
        (Side::Source, Moment::StopMirror) => Trips { from, to: 2, router },
        (Side::Source, _) => Trips { from, to: 3, router },
        // The target decides; the source's fence is opened in two, and before that two apply the last changes.
        (Side::Target, Moment::Decision | Moment::StopMirror) => Trips { from: from + 1, to: 2, router },
        (Side::Target, _) => Trips { from: from + 1, to: 4, router },
    }
}

impl Answers {
    pub(super) fn note(&mut self, place: impl Into<Place>, took: Duration) {
        match place.into() {
            Place::Source => self.source = took,
            Place::Target => self.target = took,
            // Nobody waits for it.
            Place::Backup => {}
        }
    }

    pub(super) fn note_router(&mut self, took: Duration) {
        self.router = took;
    }

    /// Whether it costs clients who wait next to nothing to ask a side something more.
    pub(super) fn is_quick(&self, side: Side) -> bool {
        self.of(side) < QUICK
    }

    fn of(&self, side: Side) -> Duration {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    fn time_for(&self, switch: Switch, trips: &Trips) -> Duration {
        self.of(switch.from) * trips.from + self.of(switch.to()) * trips.to + self.router * trips.router
    }

    /// How long it takes to let clients go on where they were: the fence is lowered, the router told.
    pub(super) fn way_back(&self, switch: Switch) -> Duration {
        self.time_for(switch, &Trips { from: 1, to: 0, router: 1 })
    }

    /// `the source takes 2 s to answer`, of whom most has to be waited for.
    fn name_slowest(&self, switch: Switch, trips: &Trips) -> String {
        let (from, to) = (switch.from, switch.to());
        let (name, took, _) = [
            (from.name(), self.of(from), trips.from),
            (to.name(), self.of(to), trips.to),
            ("router", self.router, trips.router),
        ]
        .into_iter()
        .max_by_key(|(_, took, trips)| *took * *trips)
        .unwrap_or_default();
        format!("the {name} takes {} to answer", human(took))
    }
}

impl Run {
    /// Asks both sides and the routers for an answer each, before clients are held; fails when the hold would take longer than it
    /// may.
    pub fn measure_answers(&mut self, switch: Switch, bounds: &Bounds) -> Result<()> {
        if self.plan.is_dry() {
            return Ok(());
        }
        let mut fits = Ok(());
        for _ in 0..ATTEMPTS {
            let routers = self.routers()?;
            let of_router = timed(|| routers.answer())?;
            self.answers.note_router(of_router);
            let (source, target) = self.both();
            let (of_source, of_target) = thread::scope(|scope| {
                let asking = scope.spawn(|| timed(|| source.query_text("select", &[]).map(drop)));
                let of_target = timed(|| target.query_text("select", &[]).map(drop));
                (ended(asking), of_target)
            });
            self.answers.note(Side::Source, of_source?);
            self.answers.note(Side::Target, of_target?);
            fits = self.require_time(switch, bounds, Moment::Hold);
            if fits.is_ok() {
                break;
            }
        }
        fits
    }

    /// Fails when what is left of a switch from this moment on would take longer than is left of its pause.
    pub fn require_time(&self, switch: Switch, bounds: &Bounds, moment: Moment) -> Result<()> {
        if self.plan.is_dry() || (self.held_since.is_none() && moment != Moment::Hold) {
            return Ok(());
        }
        let used = self.held_since.map(|held| held.elapsed()).unwrap_or_default();
        let trips = trips_ahead(switch, moment);
        let needed = self.answers.time_for(switch, &trips);
        if used + needed < bounds.max_pause {
            return Ok(());
        }
        let slowest = self.answers.name_slowest(switch, &trips);
        let (detail, whence) = if moment == Moment::Hold {
            (format!("clients would wait for {}: {slowest}", human(needed)), "Nobody was held.")
        } else if used >= bounds.max_pause {
            (self.slowest_step(), "Clients go on where they were.")
        } else {
            (
                format!("{} more would have been needed: {slowest}", human(needed)),
                "Clients go on where they were.",
            )
        };
        Err(Error::TimedOut {
            what: "the pause".into(),
            budget: bounds.max_pause,
            detail: Some(detail),
            hint: format!("{whence} Give a longer --max-pause, or run it again at a quieter time."),
        })
    }
}

/// How long it takes to do something well.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work().map(|()| begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::switch::{HOME, OUT};

    #[test]
    fn what_is_left_never_grows() {
        let moments = [
            Moment::Hold,
            Moment::Ending,
            Moment::Marker,
            Moment::Drain,
            Moment::StopMirror,
            Moment::Decision,
        ];
        let second = Duration::from_secs(1);
        let answers = Answers { source: second, target: second, router: second };
        for switch in [OUT, HOME] {
            let left: Vec<Duration> = moments
                .iter()
                .map(|moment| answers.time_for(switch, &trips_ahead(switch, *moment)))
                .collect();
            assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
            assert!(answers.way_back(switch) < left[moments.len() - 1], "{left:?}");
        }
    }

    #[test]
    fn who_keeps_clients_waiting_is_named() {
        let quick = Duration::from_millis(2);
        let answers = Answers { source: quick, target: Duration::from_secs(2), router: quick };
        let named = answers.name_slowest(OUT, &trips_ahead(OUT, Moment::Drain));
        assert_eq!(named, "the target takes 2 s to answer");
    }
}
