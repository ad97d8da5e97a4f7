//! How fast a flow is, how far behind, and whether it will ever catch up.

use std::collections::VecDeque;
use std::time::Duration;

/// The time that rates are taken over.
const WINDOW: Duration = Duration::from_secs(30);
/// Rates over less time mean nothing.
const SHORTEST: Duration = Duration::from_millis(200);

/// Where a flow was at one moment. Positions are in bytes of WAL, or whatever the source of changes counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Since the beginning of the run.
    pub at: Duration,
    /// Everything before it is applied and committed.
    pub applied: u64,
    /// The publisher has written up to here.
    pub written: u64,
}

/// Samples of the last while.
#[derive(Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
}

/// Rates over the last while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Bytes of WAL applied in a second.
    pub applied: u64,
    /// Bytes of WAL written on the publisher in a second.
    pub written: u64,
    /// At these rates, nothing is left to be applied after this time; none: it never will be.
    pub catches_up_in: Option<Duration>,
}

impl Pace {
    /// Takes in one more sample, later than the last.
    pub fn note(&mut self, sample: Sample) {
        self.samples.push_back(sample);
        // One that is older than the window stays, so that there is always all of a window.
        while self.samples.get(1).is_some_and(|second| sample.at.saturating_sub(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Rates, when enough time has passed to tell; not while a transaction that is larger than all of it is under way.
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let time = last.at.saturating_sub(first.at);
        if time < SHORTEST {
            return None;
        }
        let per_second = |from: u64, to: u64| (to.saturating_sub(from) as f64 / time.as_secs_f64()) as u64;
        let (applied, written) =
            (per_second(first.applied, last.applied), per_second(first.written, last.written));
        let behind = last.written.saturating_sub(last.applied);
        if applied == 0 && behind > 0 {
            return None;
        }
        let catches_up_in = if behind == 0 {
            Some(Duration::ZERO)
        } else {
            (applied > written)
                .then(|| Duration::try_from_secs_f64(behind as f64 / (applied - written) as f64).ok())
                .flatten()
        };
        Some(Rates { applied, written, catches_up_in })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(samples: &[(u64, u64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (at, applied, written) in samples {
            pace.note(Sample { at: Duration::from_secs(*at), applied: *applied, written: *written });
        }
        pace
    }

    #[test]
    fn a_flow_converges_when_it_applies_more_than_is_written() {
        assert_eq!(pace(&[(0, 0, 1000)]).rates(), None);
        let faster = pace(&[(0, 0, 1000), (10, 600, 1100)]).rates().unwrap();
        assert_eq!((faster.applied, faster.written), (60, 10));
        assert_eq!(faster.catches_up_in, Some(Duration::from_secs(10)));
        let slower = pace(&[(0, 0, 1000), (10, 100, 2000)]).rates().unwrap();
        assert_eq!((slower.applied, slower.written, slower.catches_up_in), (10, 100, None));
        assert_eq!(pace(&[(0, 0, 1000), (10, 0, 1000)]).rates(), None);
        let idle = pace(&[(0, 500, 500), (10, 500, 500)]).rates().unwrap();
        assert_eq!(idle.catches_up_in, Some(Duration::ZERO));
    }

    #[test]
    fn only_the_last_while_counts() {
        let mut samples: Vec<(u64, u64, u64)> = (0..100).map(|at| (at, 0, at * 100)).collect();
        samples.extend((100..200).map(|at| (at, (at - 99) * 200, at * 100)));
        let rates = pace(&samples).rates().unwrap();
        assert_eq!((rates.applied, rates.written), (200, 100));
    }
}
