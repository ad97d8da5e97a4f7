//! How much of a table is hashed: noted now and then, so that a comparison that is interrupted goes on range by range.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pair::Pair;
use super::rows::Range;
use super::{Buckets, add};

/// How often it is noted: as a part of the time that the ranges take, next to nothing.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// What is hashed of a table, for a later run. Rows that have changed since make buckets differ, which are read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// How many buckets the rows were sorted into.
    pub buckets: i32,
    done: Vec<(usize, Option<Range>)>,
    source: Vec<(i32, i64, String)>,
    target: Vec<(i32, i64, String)>,
}

/// What is hashed of a table in this run.
#[derive(Default)]
pub(super) struct Progress {
    left: usize,
    /// In how many pieces each side is read in this run: source, target.
    pieces: (usize, usize),
    /// Of the source's table.
    pub(super) source: Buckets,
    /// Of those that it is the image of.
    pub(super) target: Buckets,
    done: Vec<(usize, Option<Range>)>,
    noted: Option<Instant>,
}

impl Progress {
    /// What an interrupted run has left of a pair, and what is still to be read.
    pub(super) fn begin(pair: &Pair, jobs: usize) -> (Progress, Vec<(usize, Option<Range>)>) {
        let mut progress = Progress::default();
        let mut left = pair.ranges(jobs);
        if let Some(partial) = pair.partial.as_ref().filter(|partial| partial.is_part_of(&left)) {
            left.retain(|range| !partial.done.contains(range));
            progress.done.clone_from(&partial.done);
            progress.source = sums(&partial.source);
            progress.target = sums(&partial.target);
        }
        progress.left = left.len();
        let of_source = left.iter().filter(|(part, _)| *part == 0).count();
        progress.pieces = (of_source, left.len() - of_source);
        (progress, left)
    }

    /// In how many pieces the source and the target are read in this run.
    pub(super) fn pieces(&self) -> (usize, usize) {
        self.pieces
    }

    /// Takes in what one range holds; whether it was the last.
    pub(super) fn take(&mut self, part: usize, range: Option<Range>, found: Buckets) -> bool {
        let side = if part == 0 { &mut self.source } else { &mut self.target };
        for bucket in found {
            add(side, bucket);
        }
        self.done.push((part, range));
        self.left -= 1;
        self.left == 0
    }

    /// What is to be noted now, if it is time.
    pub(super) fn due(&mut self, buckets: i32) -> Option<Partial> {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE_EVERY) {
            return None;
        }
        // A table of one range has nothing to go on with.
        self.done.iter().find(|(_, range)| range.is_some())?;
        self.noted = Some(Instant::now());
        let list = |sums: &Buckets| {
            sums.iter().map(|(bucket, (rows, sum))| (*bucket, *rows, sum.to_string())).collect()
        };
        Some(Partial {
            buckets,
            done: self.done.clone(),
            source: list(&self.source),
            target: list(&self.target),
        })
    }
}

impl Partial {
    /// Whether the table is still cut in the same way: then what was read of it fits to what is left.
    fn is_part_of(&self, ranges: &[(usize, Option<Range>)]) -> bool {
        self.done.iter().all(|range| ranges.contains(range))
    }
}

fn sums(list: &[(i32, i64, String)]) -> Buckets {
    // As we have written them.
    list.iter().map(|(bucket, rows, sum)| (*bucket, (*rows, sum.parse().unwrap_or_default()))).collect()
}
