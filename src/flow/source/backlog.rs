//! What a slot has gathered, read by a function in pieces before it is streamed: a walsender makes a `send` for each change, which
//! costs it more than to decode it; rows of a query go many at a time.
//!
//! The pieces are taken from temporary copies of the slot: the slot itself stays where it was confirmed, as under a stream. Two
//! sessions take turns, so that the next piece is decoded while the rows of one are read.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::PgLsn;

use super::decoder::Decoder;
use super::reader::Outlet;
use crate::error::{Error, Result, ServerError};
use crate::pg::Server;
use crate::pg::wire::{Client, CopyRows, Purpose, Taken};
use crate::sql;

/// Messages in the first piece, and in the largest; each is twice the one before. To begin one decodes again all that came before it
/// since the slot's WAL begins: with pieces of one size that would grow with the square of their number. What the publisher does not
/// hold in memory of a piece waits in a file until it is read.
const PIECES: (u32, u32) = if cfg!(test) { (100, 500) } else { (10_000, 400_000) };
/// What a piece of large messages may come to, in bytes.
const PIECE_BYTES: usize = 96 << 20;
/// How often the stop flag is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// How often the slot itself is moved on, which reads the WAL again.
const RELEASE_EVERY: Duration = Duration::from_secs(60);

/// A slot with changes in it.
pub(super) struct Backlog<'a> {
    pub(super) publisher: &'a Server,
    pub(super) slot: &'a str,
    pub(super) publication: &'a str,
    /// Values come in the binary form of their types.
    pub(super) binary: bool,
}

/// How reading it has ended.
pub(super) enum Ended {
    /// Everything is read, applied and let go up to here.
    Applied(PgLsn),
    /// The reader was told to stop.
    Stopped,
    /// The publisher has no slot to spare for a copy.
    NoCopy,
}

/// A session that takes pieces out of its own copy of the slot.
struct Taker {
    client: Client,
    copy: String,
    rows: CopyRows,
    /// Where its next piece begins.
    begins_at: PgLsn,
    /// The end of the WAL when it was asked for a piece.
    end: PgLsn,
}

impl Backlog<'_> {
    /// Reads until all is read that was committed when the last piece was asked for, and applied.
    pub(super) fn read(&self, decoder: &mut Decoder, outlet: &mut Outlet) -> Result<Ended> {
        let mut taker = self.connect()?;
        // What a run before this one has read lies behind what the slot keeps: to pass over it is less work than to decode it again.
        self.release(&mut taker, outlet)?;
        if outlet.is_stopped() {
            return Ok(Ended::Stopped);
        }
        if !self.copy(&mut taker, self.slot, "")? {
            return Ok(Ended::NoCopy);
        }
        let mut spare: Option<Taker> = None;
        let mut released = Instant::now();
        let mut size = PIECES.0;
        let (mut bytes, mut messages) = (0, 0);
        self.ask(&mut taker, size)?;
        loop {
            let fitting = (PIECE_BYTES * messages).checked_div(bytes).unwrap_or(usize::MAX);
            size = (size * 2).min(PIECES.1).min(u32::try_from(fitting.max(1)).unwrap_or(u32::MAX));
            let mut ahead: Option<Taker> = None;
            let mut is_last = true;
            let mut is_first = true;
            loop {
                match taker.rows.next(&mut taker.client, GLANCE).map_err(|cause| self.failed(cause))? {
                    Taken::Row(body) => {
                        if std::mem::take(&mut is_first) {
                            // The first row comes when all of them are decoded: the other session goes on from there.
                            ahead = self.follow(spare.take(), &taker)?;
                            is_last = false;
                            if let Some(other) = ahead.take_if(|other| other.begins_at >= taker.end) {
                                spare = Some(other);
                                is_last = true;
                            } else if let Some(other) = &mut ahead {
                                self.ask(other, size)?;
                            }
                        }
                        bytes += body.len();
                        messages += 1;
                        outlet.count(body.len());
                        decoder.take(&body, outlet)?;
                        if outlet.is_full() {
                            outlet.send(false, |_| ());
                        }
                    }
                    Taken::Nothing => {}
                    Taken::End => break,
                }
                if outlet.is_stopped() {
                    return Ok(Ended::Stopped);
                }
            }
            if released.elapsed() >= RELEASE_EVERY {
                self.release(&mut taker, outlet)?;
                released = Instant::now();
            }
            if is_last {
                break;
            }
            match ahead {
                Some(other) => spare = Some(std::mem::replace(&mut taker, other)),
                None => self.ask(&mut taker, size)?,
            }
        }
        outlet.note_position(taker.end.into());
        outlet.send(true, |_| ());
        drop(spare);
        // A stream of the slot would decode all of it again: first it is moved to where all of this is applied.
        while outlet.confirmed() < decoder.last_end() {
            if outlet.is_stopped() {
                return Ok(Ended::Stopped);
            }
            std::thread::sleep(GLANCE);
        }
        self.release(&mut taker, outlet)?;
        Ok(if outlet.is_stopped() { Ended::Stopped } else { Ended::Applied(outlet.confirmed()) })
    }

    /// A session that has no copy yet.
    fn connect(&self) -> Result<Taker> {
        let publisher = self.publisher;
        let client = Client::connect(&publisher.conninfo, &publisher.application_name, Purpose::Sql)
            .map_err(|cause| Error::Unreachable { what: publisher.place.name().to_owned(), cause })?;
        let mut taker = Taker {
            client,
            copy: String::new(),
            rows: CopyRows::default(),
            begins_at: PgLsn::from(0),
            end: PgLsn::from(0),
        };
        taker.client.set_coalescing(true);
        let pid = taker.query("select pg_catalog.pg_backend_pid()").map_err(|cause| self.failed(cause))?;
        taker.query(sql::flow::WIDEN_DECODING.text).map_err(|cause| self.failed(cause))?;
        taker.copy = format!("pgdetour_backlog_{}", pid.first().map_or("", String::as_str));
        Ok(taker)
    }

    /// Another session whose copy of the slot begins where that of `taker` has come to; none where there is no slot to spare.
    fn follow(&self, spare: Option<Taker>, taker: &Taker) -> Result<Option<Taker>> {
        let (mut session, drop_first) = match spare {
            Some(spare) => {
                let drop = format!(
                    "select pg_catalog.pg_drop_replication_slot({});",
                    sql::quote_literal(&spare.copy)
                );
                (spare, drop)
            }
            None => (self.connect()?, String::new()),
        };
        self.copy(&mut session, &taker.copy, &drop_first).map(|copied| copied.then_some(session))
    }

    /// Makes the copy of a session, after `before`; false where there is no slot to spare.
    fn copy(&self, taker: &mut Taker, slot: &str, before: &str) -> Result<bool> {
        let copy = sql::flow::COPY_SLOT.with(&[("slot", slot), ("copy", &taker.copy)]);
        match taker.query(&format!("{before}{copy}")) {
            Ok(_) => {}
            // All of the server's slots are in use.
            Err(cause) if cause.is(&SqlState::CONFIGURATION_LIMIT_EXCEEDED) => return Ok(false),
            // A copy lives as long as its session: that is what is gone, which the session itself would say a little later.
            Err(cause) if slot != self.slot && cause.is(&SqlState::UNDEFINED_OBJECT) => {
                return Err(
                    self.failed(ServerError::lost("the session that kept a copy of the slot was ended"))
                );
            }
            Err(cause) => return Err(self.failed(cause)),
        }
        self.look(taker)?;
        Ok(true)
    }

    /// Notes where the copy of a session begins, and where the WAL ends.
    fn look(&self, taker: &mut Taker) -> Result<()> {
        let asked = sql::flow::READ_SLOT_PROGRESS.with(&[("slot", &taker.copy)]);
        let told = taker.query(&asked).map_err(|cause| self.failed(cause))?;
        let mut positions = told.iter().map(|text| text.parse().unwrap_or(PgLsn::from(0)));
        taker.begins_at = positions.next().unwrap_or(PgLsn::from(0));
        taker.end = positions.next().unwrap_or(PgLsn::from(0));
        Ok(())
    }

    /// Asks for the next piece, of so many messages at least; its rows come when all of it is decoded.
    fn ask(&self, taker: &mut Taker, size: u32) -> Result<()> {
        self.look(taker)?;
        let names = sql::quote_identifier(self.publication);
        let mut options = vec!["proto_version", "1", "publication_names", &names];
        if taker.client.server_version() >= 140_000 {
            options.extend(["messages", "true"]);
            if self.binary {
                options.extend(["binary", "true"]);
            }
        }
        let options: Vec<String> = options.iter().map(|text| (*text).to_owned()).collect();
        let query = sql::flow::READ_BACKLOG.with(&[
            ("slot", &taker.copy),
            ("count", &size.to_string()),
            ("options", &sql::quote_array(&options)),
        ]);
        self.ask_rows(taker, &query)
    }

    /// Moves the slot itself on to what is applied, and the beginning of its WAL behind it; until the reader is told to stop.
    fn release(&self, taker: &mut Taker, outlet: &Outlet) -> Result<()> {
        let applied = outlet.confirmed().to_string();
        self.ask_rows(taker, &sql::flow::RELEASE_SLOT.with(&[("slot", self.slot), ("lsn", &applied)]))?;
        while !outlet.is_stopped() {
            if taker.rows.next(&mut taker.client, GLANCE).map_err(|cause| self.failed(cause))? == Taken::End {
                break;
            }
        }
        Ok(())
    }

    /// Asks for the rows of a query of one column.
    fn ask_rows(&self, taker: &mut Taker, query: &str) -> Result<()> {
        taker.rows = CopyRows::default();
        taker
            .client
            .ask_copy_out(&format!("copy ({}) to stdout (format binary)", query.trim()))
            .map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: ServerError) -> Error {
        let action = format!("read what replication slot \"{}\" has gathered", self.slot);
        Error::Sql { action, on: self.publisher.place.name().to_owned(), cause }
    }
}

impl Taker {
    /// The values of the last row of a script.
    fn query(&mut self, script: &str) -> Result<Vec<String>, ServerError> {
        let rows = self.client.simple_query(script)?;
        Ok(rows.into_iter().next_back().into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::apply::test_pair::Pair;

    #[test]
    fn a_copy_that_went_with_its_session_is_told_as_a_lost_connection() {
        let pair = Pair::new("", "");
        let flow = pair.flow(&[]);
        let slot = "pgdetour_mirror";
        let backlog = Backlog { publisher: &flow.publisher, slot, publication: slot, binary: false };
        let mut taker = backlog.connect().unwrap();
        assert!(backlog.copy(&mut taker, slot, "").unwrap());
        let owner = taker.copy.strip_prefix("pgdetour_backlog_").unwrap();
        pair.source(&format!("select pg_terminate_backend({owner}, 20000)"));
        let error = backlog.follow(None, &taker).err().unwrap();
        assert!(error.is_connection_lost(), "{error:?}");
        // Where the slot itself is gone, that is the finding.
        pair.source(&format!("select pg_drop_replication_slot('{slot}')"));
        let error = backlog.copy(&mut backlog.connect().unwrap(), slot, "").err().unwrap();
        assert!(!error.is_connection_lost() && error.is_sqlstate(&SqlState::UNDEFINED_OBJECT), "{error:?}");
    }
}
