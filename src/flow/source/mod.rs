//! Where a flow's changes come from.

mod backlog;
#[cfg(test)]
mod backlog_tests;
pub mod binary;
pub mod change;
mod change_reader;
pub mod change_table;
pub mod decoder;
pub mod export;
pub mod lag;
pub mod late;
pub mod pgoutput;
pub mod publication;
pub mod reader;
mod record_text;
pub mod recorded;
mod row;
pub mod slot;
#[cfg(test)]
mod slot_tests;
pub mod space;
pub mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

use postgres::types::PgLsn;

use self::binary::Portable;
use self::reader::Reader;
use crate::error::{Error, Result};
use crate::pg::wire::{Client, Purpose};
use crate::pg::{Server, Session};
use crate::sql;

/// How long a walsender may take to leave the slot at the end.
const LEAVE_BUDGET: Duration = Duration::from_secs(10);

/// How long removing changes that are applied may take at the end of a run.
const PURGE_BUDGET: Duration = Duration::from_millis(100);

/// What records the changes of a publisher, and gives them back in an order in which they can be applied.
/// Positions rise with that order and are good for one source only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSource {
    /// The publisher's WAL, decoded.
    Slot {
        /// Replication slot on the publisher.
        slot: String,
        /// Publication on the publisher.
        publication: String,
    },
    /// A table that triggers fill on the publisher.
    Triggers,
}

impl ChangeSource {
    /// `slot "pgdetour_mirror"`, for messages.
    pub fn describe(&self) -> String {
        match self {
            ChangeSource::Slot { slot, .. } => format!("slot \"{slot}\""),
            ChangeSource::Triggers => "table \"pgdetour.change\"".to_owned(),
        }
    }

    /// Whether there is anything of it on the publisher.
    pub fn exists(&self, publisher: &mut Session) -> Result<bool> {
        match self {
            ChangeSource::Slot { slot, .. } => Ok(slot::find_slot(publisher, slot)?.is_some()),
            ChangeSource::Triggers => change_table::is_present(publisher),
        }
    }

    /// Fails when what it is to record is not, or no longer, complete.
    pub fn require_intact(&self, publisher: &mut Session) -> Result<()> {
        match self {
            ChangeSource::Slot { slot, publication } => slot::require_intact(publisher, slot, publication),
            ChangeSource::Triggers => change_table::require_intact(publisher),
        }
    }

    /// Fails when what is not applied yet can no longer be read; else the position up to which it has been let go.
    pub fn released(&self, publisher: &mut Session) -> Result<PgLsn> {
        match self {
            ChangeSource::Slot { slot, .. } => {
                let Some(found) = slot::find_slot(publisher, slot)? else {
                    return Err(Error::Conflict {
                        kind: "slot_missing",
                        sqlstate: None,
                        message: format!("replication slot \"{slot}\" does not exist on {}", publisher.place),
                        detail: Some("Changes since it was removed are not recorded.".to_owned()),
                        hint: slot::MISSED.to_owned(),
                    });
                };
                if found.is_lost() {
                    return Err(slot::lost(slot));
                }
                Ok(found.confirmed_flush.unwrap_or(PgLsn::from(0)))
            }
            ChangeSource::Triggers => {
                change_table::require_intact(publisher)?;
                Ok(PgLsn::from(0))
            }
        }
    }

    /// Begins to read behind `start`. With `gathered`, what a slot has gathered by now is not streamed but read in pieces, which
    /// costs much less, but takes a moment to change to the stream in the end. With `binary`, that comes in binary form, of which
    /// these types have one, or as a [`binary::misfit`].
    pub fn open(
        &self,
        publisher: &Server,
        start: PgLsn,
        gathered: bool,
        binary: Option<Portable>,
    ) -> Result<Reader> {
        match self {
            ChangeSource::Slot { slot, publication } if gathered => {
                stream::start_with_backlog(publisher, slot, publication, start, binary)
            }
            ChangeSource::Slot { slot, publication } => {
                let stream = stream::connect(publisher, slot, start, publication)?;
                stream::start(stream, slot, publisher.place.name())
            }
            ChangeSource::Triggers => change_reader::start(publisher, start),
        }
    }

    /// Begins to read all that is recorded, and lets go of nothing. Changes that are `applied` may not be removed yet from a table of
    /// them.
    pub fn open_copy(&self, publisher: &Server, applied: PgLsn) -> Result<Reader> {
        let on = publisher.place.name();
        match self {
            ChangeSource::Slot { slot, publication } => {
                let mut client =
                    Client::connect(&publisher.conninfo, &publisher.application_name, Purpose::Replication)
                        .map_err(|cause| Error::Unreachable { what: on.to_owned(), cause })?;
                let failed = |cause| Error::Sql {
                    action: format!("read a copy of replication slot \"{slot}\""),
                    on: on.to_owned(),
                    cause,
                };
                // Others may export at the same time; a slot of the session's own goes with it.
                let copy = format!("pgdetour_export_{}", std::process::id());
                let statement = sql::flow::COPY_SLOT.with(&[("slot", slot), ("copy", &copy)]);
                client.simple_query(&statement).map_err(failed)?;
                let stream = client.start_replication(&copy, PgLsn::from(0), publication).map_err(failed)?;
                stream::start(stream, &copy, on)
            }
            ChangeSource::Triggers => change_reader::start(publisher, applied),
        }
    }

    /// A position that is behind everything committed by now and before everything that commits later.
    pub fn end(&self, publisher: &mut Session) -> Result<PgLsn> {
        match self {
            ChangeSource::Slot { .. } => lag::wal_position(publisher),
            ChangeSource::Triggers => change_table::order_changes(publisher),
        }
    }

    /// A position that nothing applied can be behind; changes nothing.
    pub fn written(&self, publisher: &mut Session) -> Result<PgLsn> {
        match self {
            ChangeSource::Slot { .. } => lag::wal_position(publisher),
            ChangeSource::Triggers => change_table::drawn_position(publisher),
        }
    }

    /// Bytes behind `position`: of WAL, other databases' included; of recorded changes about as many.
    pub fn bytes_behind(&self, publisher: &mut Session, position: PgLsn) -> Result<u64> {
        match self {
            ChangeSource::Slot { .. } => lag::bytes_behind(publisher, position),
            ChangeSource::Triggers => change_table::bytes_behind(publisher, position),
        }
    }

    /// Lets go of everything up to `position`, once its reader has left.
    pub fn release(&self, publisher: &mut Session, position: PgLsn) -> Result<()> {
        match self {
            ChangeSource::Slot { slot, .. } => slot::advance_slot(publisher, slot, position, LEAVE_BUDGET),
            // What is left is removed by the next reader: this may be while clients wait.
            ChangeSource::Triggers => change_table::purge(publisher, position, PURGE_BUDGET).map(drop),
        }
    }

    /// Counts the row changes of transactions committed after `position`; nothing is let go.
    pub fn count_later(&self, publisher: &mut Session, position: PgLsn) -> Result<i64> {
        match self {
            ChangeSource::Slot { slot, publication } => {
                late::count_changes(publisher, slot, publication, position)
            }
            ChangeSource::Triggers => change_table::count_later(publisher, position),
        }
    }

    /// How to record no changes of a table any more.
    pub fn hint_to_leave_out(&self, schema: &str, table: &str) -> String {
        let table = sql::quote_qualified(schema, table);
        match self {
            ChangeSource::Slot { publication, .. } => {
                format!(
                    "Take it out: ALTER PUBLICATION {} DROP TABLE ONLY {table};",
                    sql::quote_identifier(publication)
                )
            }
            ChangeSource::Triggers => {
                format!("Drop the triggers of {table} whose names begin with \"!pgdetour_capture_\".")
            }
        }
    }
}
