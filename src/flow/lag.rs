//! How far a flow is behind its publisher, in bytes of WAL.

use postgres::types::PgLsn;

use super::slot;
use crate::error::Result;
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
