//! Changes that were committed on a publisher after the last one that was carried over.

use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;

use crate::error::{Doing as _, Result};
use crate::pg::{PgLsn, Session};
use crate::sql;

/// How long to wait for the slot's last reader to leave.
const BUDGET: Duration = Duration::from_secs(30);

/// Counts the row changes of transactions committed after `position`, from the slot's WAL. The slot is not moved.
pub fn count_changes(publisher: &mut Session, slot: &str, publication: &str, position: PgLsn) -> Result<i64> {
    let deadline = Instant::now() + BUDGET;
    loop {
        let answer = publisher
            .query_one(&sql::flow::COUNT_LATE_CHANGES, &[&slot, &publication, &position])
            .doing(|| format!("read the changes in slot \"{slot}\""));
        match answer {
            Ok(row) => return Ok(row.get(0)),
            Err(error) if error.is_sqlstate(&SqlState::OBJECT_IN_USE) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
}
