//! `pg_current_snapshot()` as a filter: which streamed transactions a copy of a table holds already.

use crate::error::{Error, Result};

/// The text of a `pg_snapshot`, read: `xmin:xmax:xip,…`, all of 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// In progress when it was taken; sorted.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Reads the type's text form.
    pub fn parse(text: &str) -> Result<Snapshot> {
        let malformed = || Error::Internal { message: format!("\"{text}\" is not a snapshot") };
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| malformed());
        let mut in_progress =
            list.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<Vec<_>>>()?;
        in_progress.sort_unstable();
        Ok(Snapshot { xmin: number(xmin)?, xmax: number(xmax)?, in_progress })
    }

    /// Whether a transaction that has committed, of this 64-bit xid, is visible to the snapshot.
    pub fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }
}

/// A transaction's xid, as what records changes tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Xid {
    /// All of it.
    Whole(u64),
    /// Its lower 32 bits.
    Low(u32),
}

impl Xid {
    /// Its lower 32 bits.
    pub fn low(self) -> u32 {
        match self {
            Xid::Whole(xid) => xid as u32,
            Xid::Low(xid) => xid,
        }
    }

    /// All of it. `next` is an xid that the server has given out about now, not one that was noted once: what a slot keeps is less
    /// than 2^31 xids old, since the server gives out no more of them before the slot's `catalog_xmin` has moved on.
    pub fn whole(self, next: u64) -> u64 {
        match self {
            Xid::Whole(xid) => xid,
            Xid::Low(xid) => next.wrapping_add_signed(i64::from(xid.wrapping_sub(next as u32) as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_had_ended_when_it_was_taken() {
        let snapshot = Snapshot::parse("100:110:104,100,107").unwrap();
        for (xid, shown) in
            [(3, true), (99, true), (100, false), (101, true), (104, false), (107, false), (109, true)]
        {
            assert_eq!(snapshot.shows(xid), shown, "xid {xid}");
        }
        assert!(!snapshot.shows(110));
        assert!(!snapshot.shows(5000));
        assert!(Snapshot::parse("7:7:").unwrap().shows(6));
    }

    #[test]
    fn xids_are_widened_across_the_epoch() {
        let epoch = 3u64 << 32;
        assert_eq!(Xid::Low(u32::MAX).whole(epoch + 5), epoch - 1, "of the epoch before");
        assert_eq!(Xid::Low(3).whole(epoch - 20), epoch + 3, "given out since the server was asked");
        for age in [1, 1000, (1 << 31) - 1] {
            assert_eq!(Xid::Low((epoch - age) as u32).whole(epoch), epoch - age);
        }
        assert_eq!((Xid::Whole(epoch + 7).whole(9), Xid::Whole(epoch + 7).low()), (epoch + 7, 7));
    }

    #[test]
    fn a_snapshot_shows_nothing_new_however_old_it_is() {
        let snapshot = Snapshot::parse("100:110:104").unwrap();
        for age in [0, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 31) + 50, 3 << 30, 1 << 32, 5 << 33] {
            let xid = 110 + age;
            assert!(!snapshot.shows(Xid::Low(xid as u32).whole(xid + 3)), "{age} transactions later");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "1:2", "1:2:3:4", "a:2:", "1:2:x"] {
            assert!(Snapshot::parse(text).is_err(), "{text:?}");
        }
    }
}
