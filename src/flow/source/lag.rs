//! How far a flow is behind its publisher, in bytes of WAL.

use std::time::{Duration, Instant};

use postgres::types::PgLsn;

use super::slot;
use crate::error::{Error, Result};
use crate::pg::Session;
use crate::sql;

/// Where the publisher's WAL ends, flushed.
pub fn wal_position(publisher: &mut Session) -> Result<PgLsn> {
    Ok(publisher.query_one(&sql::flow::READ_WAL_POSITION, &[])?.get("position"))
}

/// Bytes of WAL that the publisher has written behind `position`; other databases of the server write them, too.
pub fn bytes_behind(publisher: &mut Session, position: PgLsn) -> Result<u64> {
    let end = wal_position(publisher)?;
    Ok(u64::from(end).saturating_sub(position.into()))
}

/// Bytes of WAL behind what the reader of `slot` has confirmed; none when there is no such slot.
pub fn slot_bytes_behind(publisher: &mut Session, slot: &str) -> Result<Option<u64>> {
    let found = slot::find_slot(publisher, slot)?;
    let Some(confirmed) = found.and_then(|slot| slot.confirmed_flush) else { return Ok(None) };
    bytes_behind(publisher, confirmed).map(Some)
}

/// The pace at which the publisher has written WAL so far, in bytes a second; none when it has written next to nothing.
pub fn wal_rate(publisher: &mut Session) -> Result<Option<f64>> {
    let row = publisher.query_one(&sql::flow::READ_WAL_RATE, &[])?;
    Ok(Some(row.get("bytes_per_second")).filter(|rate| *rate >= 1.0))
}

/// How often the lag is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Waits until what is unconfirmed in a slot is at most `max` bytes; how many there are then. A dry run does not wait.
pub fn wait_until_below(publisher: &mut Session, slot: &str, max: u64, budget: Duration) -> Result<()> {
    if publisher.is_dry() {
        publisher.note(format!("wait until slot \"{slot}\" is at most {max} bytes behind"));
        return Ok(());
    }
    let began = Instant::now();
    loop {
        let behind = slot_bytes_behind(publisher, slot)?.unwrap_or(0);
        if behind <= max {
            return Ok(());
        }
        if began.elapsed() >= budget {
            return Err(Error::TimedOut {
                what: "waiting until the lag is small".into(),
                budget,
                detail: Some(format!("{behind} bytes of WAL are still to be applied, {max} are allowed")),
                hint: "Run it again when less is written, or give a larger --max-lag.".into(),
            });
        }
        std::thread::sleep(POLL);
    }
}
