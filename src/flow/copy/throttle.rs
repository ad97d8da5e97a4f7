//! How fast a copy may read: a rate, and a pause while the publisher is busy.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::types::PgLsn;

use crate::error::Result;
use crate::pg::{Server, Session};
use crate::sql;
use crate::units::MaxLoad;

/// How often the publisher's load is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a worker that has to wait sleeps before it looks whether it may stop.
const NAP: Duration = Duration::from_millis(20);
/// What may be read at once after a pause: a tenth of a second's worth.
const BURST: f64 = 0.1;

/// The limits of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Bytes a second that all workers together may read.
    pub rate: Option<u64>,
    /// Load of the publisher above which they pause.
    pub load: MaxLoad,
}

/// Keeps workers within the limits.
pub struct Throttle {
    limits: Limits,
    paused: AtomicBool,
    over: AtomicBool,
    /// When the next byte may be read.
    next: Mutex<Instant>,
}

impl Throttle {
    /// Nothing has been read yet.
    pub fn new(limits: Limits) -> Throttle {
        Throttle {
            limits,
            paused: AtomicBool::new(false),
            over: AtomicBool::new(false),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `bytes` that were just read are within the limits, or `go_on` fails.
    pub fn take(&self, bytes: u64, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        while self.paused.load(Ordering::Relaxed) {
            go_on()?;
            thread::sleep(NAP);
        }
        let Some(rate) = self.limits.rate else { return Ok(()) };
        let due = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let oldest = now.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now);
            *next = (*next).max(oldest) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            *next
        };
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            go_on()?;
            thread::sleep(left.min(NAP));
        }
    }

    /// Whether somebody has to watch the load.
    pub fn watches_load(&self) -> bool {
        self.limits.load != MaxLoad::default()
    }

    /// Watches the publisher's load until [`Self::end`]; `tell` hears of each pause and of its end.
    pub fn watch(&self, publisher: &Server, tell: &dyn Fn(Option<String>)) {
        let mut session = None;
        let mut standbys = Standbys::default();
        while !self.over.load(Ordering::Relaxed) {
            // A publisher that does not answer is seen by the workers.
            let mut open = session.take().or_else(|| publisher.connect().ok());
            if let Some(reason) = open.as_mut().and_then(|open| self.look(open, &mut standbys).ok()) {
                session = open;
                let is_paused = reason.is_some();
                if self.paused.swap(is_paused, Ordering::Relaxed) != is_paused {
                    tell(reason);
                }
            } else {
                self.paused.store(false, Ordering::Relaxed);
            }
            thread::park_timeout(LOOK_INTERVAL);
        }
        self.paused.store(false, Ordering::Relaxed);
    }

    /// No worker reads any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Why the copy has to pause now, if it has to.
    fn look(&self, publisher: &mut Session, standbys: &mut Standbys) -> Result<Option<String>> {
        let row = publisher.query_one(&sql::flow::READ_LOAD, &[&"pgdetour%"])?;
        let active: i64 = row.get("active");
        let lag = standbys.lag(Instant::now(), row.get("written"), row.get("replayed"));
        let load = self.limits.load;
        if let Some(most) = load.active
            && active > i64::from(most)
        {
            return Ok(Some(format!("{active} sessions are active, {most} are allowed")));
        }
        if let Some(most) = load.standby_lag
            && lag > most
        {
            let (lag, most) = (lag.as_secs_f64(), most.as_secs_f64());
            return Ok(Some(format!("a standby is {lag:.1} s behind, {most:.1} s are allowed")));
        }
        Ok(None)
    }
}

/// How far the slowest standby is behind, in time. The server's own measure stands still while a standby applies nothing.
#[derive(Default)]
struct Standbys {
    /// What had been written at each look, from the last one on that the standby has applied all of.
    written: VecDeque<(Instant, PgLsn)>,
}

impl Standbys {
    /// For how long something has been there that is not applied; `replayed` is none without a standby.
    fn lag(&mut self, now: Instant, written: PgLsn, replayed: Option<PgLsn>) -> Duration {
        self.written.push_back((now, written));
        let Some(replayed) = replayed else {
            self.written.clear();
            return Duration::ZERO;
        };
        while self.written.get(1).is_some_and(|(_, position)| *position <= replayed) {
            self.written.pop_front();
        }
        let missing = self.written.iter().find(|(_, position)| *position > replayed);
        missing.map_or(Duration::ZERO, |(since, _)| now.duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_for_all_that_is_read_and_bounds_what_follows_a_rest() {
        let throttle = Throttle::new(Limits { rate: Some(1 << 20), load: MaxLoad::default() });
        let go_on = || Ok(());
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        for _ in 0..8 {
            throttle.take(64 << 10, &go_on).unwrap();
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(350), "half a MiB at 1 MiB/s took {took:?}");
    }

    #[test]
    fn a_standby_is_behind_since_the_first_look_that_saw_more_than_it_has_applied() {
        let (begun, mut standbys) = (Instant::now(), Standbys::default());
        let mut lag = |seconds: u64, written: u64, replayed: Option<u64>| {
            let at = begun + Duration::from_secs(seconds);
            standbys.lag(at, written.into(), replayed.map(PgLsn::from)).as_secs()
        };
        assert_eq!(lag(0, 100, Some(100)), 0);
        assert_eq!(lag(1, 200, Some(100)), 0);
        assert_eq!(lag(5, 300, Some(100)), 4, "it applies nothing");
        assert_eq!(lag(6, 400, Some(250)), 1);
        assert_eq!(lag(7, 400, Some(400)), 0);
        assert_eq!(lag(9, 500, Some(400)), 0);
        assert_eq!(lag(10, 500, None), 0, "there is none any more");
        assert_eq!(lag(20, 900, Some(800)), 0);
    }

    #[test]
    fn a_worker_that_waits_heeds_a_stop() {
        let throttle = Throttle::new(Limits { rate: Some(1), load: MaxLoad::default() });
        let stopped = || Err(crate::pg::dump::program::stopped());
        assert!(throttle.take(1 << 30, &stopped).is_err());
        throttle.paused.store(true, Ordering::Relaxed);
        assert!(throttle.take(0, &stopped).is_err());
    }
}
