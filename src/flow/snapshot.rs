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

    /// Whether a transaction of these lower 32 bits, committed by now, is visible to the snapshot.
    pub fn shows(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// The 64-bit xid with these lower bits that is nearest to `xmax`: no two live xids are 2^31 apart.
    fn widen(&self, xid: u32) -> u64 {
        let distance = i64::from(xid.wrapping_sub(self.xmax as u32) as i32);
        self.xmax.wrapping_add_signed(distance)
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
        let before = 3u64 << 32;
        let snapshot = Snapshot::parse(&format!("{}:{}:", before + 5, before + 10)).unwrap();
        assert!(snapshot.shows(u32::MAX), "of the epoch before");
        assert!(snapshot.shows(9));
        assert!(!snapshot.shows(10));
        let late = Snapshot::parse(&format!("{}:{}:", before - 20, before - 10)).unwrap();
        assert!(!late.shows(3), "of the epoch after");
        assert!(late.shows(u32::MAX - 10));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "1:2", "1:2:3:4", "a:2:", "1:2:x"] {
            assert!(Snapshot::parse(text).is_err(), "{text:?}");
        }
    }
}
