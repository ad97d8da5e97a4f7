//! How long what keeps recorded changes lasts.

use std::path::Path;
use std::time::Duration;

use postgres::types::PgLsn;

use super::{ChangeSource, change_table, slot};
use crate::error::Result;
use crate::pg::Session;
use crate::sql;

/// What is kept for changes that were not applied yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Space {
    /// WAL, or the change table, in bytes.
    pub retained_bytes: Option<i64>,
    /// What may still be written until it is given up or the disk is full, in bytes; none where that cannot be told.
    pub room_bytes: Option<i64>,
    /// Bytes a second, on the average since the recording was last let go of.
    pub growth: Option<f64>,
}

impl Space {
    /// When there is no room any more, at the rate of late.
    pub fn left(&self) -> Option<Duration> {
        let growth = self.growth.filter(|growth| *growth > 0.0)?;
        Some(Duration::from_secs_f64((self.room_bytes?.max(0) as f64 / growth).min(1e9)))
    }
}

/// Measures what `source` keeps on its publisher since `start`, which was `ago`.
pub fn measure(
    source: &ChangeSource,
    publisher: &mut Session,
    start: Option<PgLsn>,
    ago: Option<Duration>,
) -> Result<Space> {
    let free = match source {
        ChangeSource::Slot { .. } => free_bytes(publisher, "pg_wal")?,
        ChangeSource::Triggers => free_bytes(publisher, "")?,
    };
    let (retained_bytes, room_bytes) = match source {
        ChangeSource::Slot { slot, .. } => {
            let found = slot::find_slot(publisher, slot)?;
            let safe = found.as_ref().and_then(|slot| slot.safe_wal_bytes);
            // Of what is lost there is no more to lose.
            let is_lost = found.as_ref().is_some_and(slot::Slot::is_lost);
            let room = [safe, free].into_iter().flatten().min().filter(|_| !is_lost);
            (found.and_then(|slot| slot.retained_bytes), room)
        }
        ChangeSource::Triggers => (change_table::retained_bytes(publisher)?, free),
    };
    let written = match start {
        Some(start) => Some(source.bytes_behind(publisher, start)? as f64),
        None => None,
    };
    let growth = written.zip(ago).map(|(written, ago)| written / ago.as_secs_f64().max(1.0));
    Ok(Space { retained_bytes, room_bytes, growth })
}

/// What is free where the server keeps `part` of its data; none unless that is on this machine and we may know it.
pub fn free_bytes(session: &mut Session, part: &str) -> Result<Option<i64>> {
    let Some(row) = session.query_opt(&sql::flow::FIND_DISK, &[])? else { return Ok(None) };
    let Some(directory) = row.get::<_, Option<String>>("directory") else { return Ok(None) };
    let directory = Path::new(&directory);
    // Only the server's own user may look into the directory, where a part can be on a disk of its own.
    let disk = rustix::fs::statvfs(directory.join(part)).or_else(|_| rustix::fs::statvfs(directory));
    let Ok(disk) = disk else { return Ok(None) };
    Ok(i64::try_from(disk.f_bavail.saturating_mul(disk.f_frsize)).ok())
}
