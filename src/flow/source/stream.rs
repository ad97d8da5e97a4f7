//! Reads a slot, decodes it, and keeps talking to the server while the applier works.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postgres::types::PgLsn;

use super::change::{Change, Relation, RowChange};
use super::pgoutput::{self, Message, Tuple};
use super::reader::{Item, Outlet, Reader, marker};
use crate::error::{Error, Result, ServerError};
use crate::pg::wire::{Event, Stream};

/// How long to wait for the server before looking at the stop flag and the confirmed position.
const WAIT: Duration = Duration::from_millis(50);
/// A logical message of this prefix makes its transaction temporary: nothing of it is applied.
pub const SCRATCH_PREFIX: &str = "pgdetour.scratch";

/// Begins to read `stream`; `on` is the publisher's side, for errors.
pub fn start(stream: Stream, slot: &str, on: &'static str) -> Result<Reader> {
    let action = format!("read changes from replication slot \"{slot}\"");
    Reader::spawn(move |outlet| {
        let mut reading = Reading { stream, outlet, action, on, relations: HashMap::new() };
        reading.read()?;
        // The position was confirmed by the applier's own commit: a farewell that fails loses nothing.
        let _ = reading.stream.finish();
        Ok(())
    })
}

struct Reading<'a> {
    stream: Stream,
    outlet: &'a mut Outlet,
    action: String,
    on: &'static str,
    relations: HashMap<u32, Arc<Relation>>,
}

impl Reading<'_> {
    /// Reads until it is to stop.
    fn read(&mut self) -> Result<()> {
        let mut wait = WAIT;
        while !self.outlet.is_stopped() {
            self.stream.confirm(self.outlet.confirmed());
            match self.stream.next(wait).map_err(|cause| self.failed(cause))? {
                Event::Data { body, .. } => {
                    self.outlet.count(body.len());
                    self.take(&body)?;
                    if self.outlet.is_full() {
                        self.send(false);
                    }
                    wait = Duration::ZERO;
                }
                Event::Keepalive { wal_end } => {
                    self.outlet.note_position(wal_end.into());
                    wait = Duration::ZERO;
                }
                Event::Idle => {
                    if wait.is_zero() {
                        self.send(true);
                    }
                    wait = WAIT;
                }
                Event::End => {
                    self.send(true);
                    return Err(self.failed(ServerError::lost("the server ended the stream")));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, cause: ServerError) -> Error {
        Error::Sql { action: self.action.clone(), on: self.on.to_owned(), cause }
    }

    /// Hands over what was read; the server is kept informed meanwhile.
    fn send(&mut self, drained: bool) {
        let stream = &mut self.stream;
        self.outlet.send(drained, |confirmed: PgLsn| {
            stream.confirm(confirmed);
            // A connection that broke meanwhile shows at the next read.
            let _ = stream.tick();
        });
    }

    fn take(&mut self, body: &Bytes) -> Result<()> {
        let message = pgoutput::decode(body).map_err(|bad| malformed(&bad.to_string()))?;
        let item = match message {
            Message::Begin { final_lsn, xid } => Item::Begin { xid, commit_lsn: final_lsn.into() },
            Message::Commit { end_lsn, committed_at } => {
                self.outlet.note_time(committed_at);
                Item::Commit { end_lsn: end_lsn.into() }
            }
            Message::Origin { .. } => Item::Origin,
            Message::Logical { transactional: true, prefix: SCRATCH_PREFIX } => Item::Scratch,
            Message::Type | Message::Logical { .. } => return Ok(()),
            Message::Relation(relation) => {
                // The same description again keeps its identity, and with it what the applier knows about it.
                if self.relations.get(&relation.id).is_none_or(|known| **known != relation) {
                    self.relations.insert(relation.id, Arc::new(relation));
                }
                return Ok(());
            }
            Message::Insert { relation, new } => {
                let relation = self.relation(relation, &[Some(&new)])?;
                let new = new.to_row(body);
                if relation.schema == "pgdetour" {
                    match marker(&relation, &new) {
                        Some(item) => item,
                        None => return Ok(()),
                    }
                } else {
                    Item::Change(Change::Row { relation, change: RowChange::Insert { new } })
                }
            }
            Message::Update { relation, old, new } => {
                let relation = self.relation(relation, &[old.as_ref(), Some(&new)])?;
                let change =
                    RowChange::Update { old: old.map(|old| old.to_row(body)), new: new.to_row(body) };
                Item::Change(Change::Row { relation, change })
            }
            Message::Delete { relation, old } => {
                let relation = self.relation(relation, &[Some(&old)])?;
                Item::Change(Change::Row { relation, change: RowChange::Delete { old: old.to_row(body) } })
            }
            Message::Truncate { relations } => {
                let relations = relations.into_iter().map(|id| self.relation(id, &[]));
                Item::Change(Change::Truncate { relations: relations.collect::<Result<_>>()? })
            }
        };
        self.outlet.push(item);
        Ok(())
    }

    /// The relation of this oid, whose columns the rows must have.
    fn relation(&self, id: u32, rows: &[Option<&Tuple<'_>>]) -> Result<Arc<Relation>> {
        let relation =
            self.relations.get(&id).ok_or_else(|| malformed(&format!("relation {id} was not described")))?;
        for row in rows.iter().flatten() {
            if row.columns() != relation.columns.len() {
                let (found, expected) = (row.columns(), relation.columns.len());
                let message =
                    format!("a row of \"{}\" has {found} columns, not {expected}", relation.display());
                return Err(malformed(&message));
            }
        }
        Ok(Arc::clone(relation))
    }
}

fn malformed(message: &str) -> Error {
    Error::Internal { message: format!("the stream of changes is malformed: {message}") }
}
