//! Reads a slot, decodes it, and keeps talking to the server while the applier works.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use postgres::types::PgLsn;

use super::backlog::{Backlog, Ended};
use super::binary;
use super::change::{Change, Relation, RelationColumn, RowChange};
use super::pgoutput::{self, Message, Tuple};
use super::reader::{Item, Outlet, Reader, marker};
use crate::error::{Error, Result, ServerError};
use crate::pg::Server;
use crate::pg::wire::{Client, Event, Purpose, Stream};

/// How long to wait for the server before looking at the stop flag and the confirmed position.
const WAIT: Duration = Duration::from_millis(50);
/// A logical message of this prefix makes its transaction temporary: nothing of it is applied.
pub const SCRATCH_PREFIX: &str = "pgdetour.scratch";

/// Begins to read `stream`; `on` is the publisher's side, for errors.
pub fn start(stream: Stream, slot: &str, on: &'static str) -> Result<Reader> {
    let slot = slot.to_owned();
    Reader::spawn(move |outlet| follow(stream, &slot, on, &mut Decoder::default(), outlet))
}

/// Begins to read what the slot has gathered, behind `start`, and then its stream. With `binary`, what is gathered comes in binary
/// form, these types being enums.
pub fn start_with_backlog(
    publisher: &Server,
    slot: &str,
    publication: &str,
    start: PgLsn,
    binary: Option<HashSet<u32>>,
) -> Result<Reader> {
    let (publisher, slot, publication) = (publisher.clone(), slot.to_owned(), publication.to_owned());
    Reader::spawn(move |outlet| {
        let is_binary = binary.is_some();
        let backlog =
            Backlog { publisher: &publisher, slot: &slot, publication: &publication, binary: is_binary };
        let mut decoder = Decoder { enums: binary, ..Decoder::default() };
        let start = match backlog.read(&mut decoder, outlet)? {
            Ended::Applied(position) => position.max(start),
            Ended::NoCopy => start,
            Ended::Stopped => return Ok(()),
        };
        decoder.enums = None;
        let stream = connect(&publisher, &slot, start, &publication)?;
        follow(stream, &slot, publisher.place.name(), &mut decoder, outlet)
    })
}

/// A stream of the slot from `start` on.
pub fn connect(publisher: &Server, slot: &str, start: PgLsn, publication: &str) -> Result<Stream> {
    let on = publisher.place.name();
    let client = Client::connect(&publisher.conninfo, &publisher.application_name, Purpose::Replication)
        .map_err(|cause| Error::Unreachable { what: on.to_owned(), cause })?;
    client.start_replication(slot, start, publication).map_err(|cause| failed(slot, on, cause))
}

fn failed(slot: &str, on: &str, cause: ServerError) -> Error {
    Error::Sql { action: format!("read changes from replication slot \"{slot}\""), on: on.to_owned(), cause }
}

/// Reads a stream until it is to stop.
fn follow(
    mut stream: Stream,
    slot: &str,
    on: &str,
    decoder: &mut Decoder,
    outlet: &mut Outlet,
) -> Result<()> {
    let mut wait = WAIT;
    while !outlet.is_stopped() {
        stream.confirm(outlet.confirmed());
        match stream.next(wait).map_err(|cause| failed(slot, on, cause))? {
            Event::Data { body, .. } => {
                outlet.count(body.len());
                decoder.take(&body, outlet)?;
                if outlet.is_full() {
                    hand_over(&mut stream, outlet, false);
                }
                wait = Duration::ZERO;
            }
            Event::Keepalive { wal_end } => {
                outlet.note_position(wal_end.into());
                wait = Duration::ZERO;
            }
            Event::Idle => {
                if wait.is_zero() {
                    hand_over(&mut stream, outlet, true);
                }
                wait = WAIT;
            }
            Event::End => {
                hand_over(&mut stream, outlet, true);
                return Err(failed(slot, on, ServerError::lost("the server ended the stream")));
            }
        }
    }
    // The position was confirmed by the applier's own commit: a farewell that fails loses nothing.
    let _ = stream.finish();
    Ok(())
}

/// Hands over what was read; the server is kept informed meanwhile.
fn hand_over(stream: &mut Stream, outlet: &mut Outlet, drained: bool) {
    outlet.send(drained, |confirmed: PgLsn| {
        stream.confirm(confirmed);
        // A connection that broke meanwhile shows at the next read.
        let _ = stream.tick();
    });
}

/// Makes items of pgoutput's messages.
#[derive(Default)]
pub(super) struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
    last_end: u64,
    /// Values come in binary, and these types are enums.
    enums: Option<HashSet<u32>>,
}

impl Decoder {
    /// The end of the last commit.
    pub(super) fn last_end(&self) -> PgLsn {
        self.last_end.into()
    }

    /// Puts what a message says into the outlet.
    pub(super) fn take(&mut self, body: &Bytes, outlet: &mut Outlet) -> Result<()> {
        let message = pgoutput::decode(body).map_err(|bad| malformed(&bad.to_string()))?;
        let item = match message {
            Message::Begin { final_lsn, xid } => Item::Begin { xid, commit_lsn: final_lsn.into() },
            Message::Commit { end_lsn, committed_at } => {
                outlet.note_time(committed_at);
                self.last_end = end_lsn;
                Item::Commit { end_lsn: end_lsn.into() }
            }
            Message::Origin { .. } => Item::Origin,
            Message::Logical { transactional: true, prefix: SCRATCH_PREFIX } => Item::Scratch,
            Message::Type | Message::Logical { .. } => return Ok(()),
            Message::Relation(relation) => {
                if let Some(enums) = &self.enums {
                    let is_known = |column: &RelationColumn| binary::is_known(column.type_oid, enums);
                    if !relation.columns.iter().all(is_known) {
                        return Err(binary::misfit());
                    }
                }
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
        outlet.push(item);
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
