//! Streaming from a logical slot: changes as they come, and the position up to which the server may forget.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BufMut, Bytes};
use postgres::types::PgLsn;
use postgres_protocol::message::frontend;

use super::{Client, FAREWELL_LIMIT, transport::remaining};
use crate::error::ServerError;
use crate::sql;

/// How often the server hears how far we are.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH_2000: Duration = Duration::from_secs(946_684_800);

/// What came out of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One message of pgoutput.
    Data {
        /// Position of the change; of a commit, the end of its record.
        wal_start: PgLsn,
        /// As far as the server has read when it sent this.
        wal_end: PgLsn,
        /// The message, a slice of the read buffer.
        body: Bytes,
    },
    /// Everything up to `wal_end` has been sent.
    Keepalive {
        /// Commits before it have come already.
        wal_end: PgLsn,
    },
    /// Nothing came in time.
    Idle,
    /// The server ended the stream, most often as it shuts down.
    End,
}

/// A connection that streams a logical slot.
pub struct Stream {
    client: Client,
    /// End of the last commit that came.
    last_commit: PgLsn,
    in_transaction: bool,
    /// Latest position of a keepalive: nothing between the last commit and it concerns us.
    quiet_until: PgLsn,
    received: PgLsn,
    confirmed: PgLsn,
    last_status: Instant,
    ended: bool,
}

impl Client {
    /// Streams `slot` from `start` on; from where the slot was confirmed last when that is later.
    /// Logical messages are asked for from PostgreSQL 14 on.
    pub fn start_replication(
        mut self,
        slot: &str,
        start: PgLsn,
        publication: &str,
    ) -> Result<Stream, ServerError> {
        // The grammar of replication commands knows no E'' strings, and takes backslashes as they are.
        let names = sql::quote_identifier(publication).replace('\'', "''");
        let messages = if self.server_version() >= 140_000 { ", messages 'true'" } else { "" };
        self.send_query(&format!(
            "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '1', publication_names '{names}'{messages})",
            sql::quote_identifier(slot),
        ))?;
        let frame = self.receive()?;
        match frame.tag {
            b'W' => {}
            b'E' => {
                let error = self.error_in(&frame.body);
                return Err(self.settle(error));
            }
            tag => return Err(self.unexpected(tag, "the start of replication")),
        }
        self.transport.set_coalescing(true);
        Ok(Stream {
            client: self,
            last_commit: start,
            in_transaction: false,
            quiet_until: PgLsn::from(0),
            received: start,
            confirmed: start,
            last_status: Instant::now(),
            ended: false,
        })
    }
}

impl Stream {
    /// The next event, waited for up to `wait`. Answers the server and reports the position on the way.
    pub fn next(&mut self, wait: Duration) -> Result<Event, ServerError> {
        if self.ended {
            return Ok(Event::End);
        }
        let deadline = Instant::now() + wait;
        loop {
            self.tick()?;
            if let Some(frame) = self.client.take_frame()? {
                match frame.tag {
                    b'd' => {
                        let event = event_in(frame.body);
                        return match self.client.check(event)? {
                            Message::Data { wal_start, wal_end, body } => {
                                self.note_data(wal_end, &body);
                                Ok(Event::Data { wal_start, wal_end, body })
                            }
                            Message::Keepalive { wal_end, answer } => {
                                self.quiet_until = self.quiet_until.max(wal_end);
                                self.received = self.received.max(wal_end);
                                if answer {
                                    self.send_status()?;
                                }
                                Ok(Event::Keepalive { wal_end })
                            }
                        };
                    }
                    // A server that shuts down says CommandComplete without CopyDone.
                    b'c' | b'C' => {
                        self.ended = true;
                        return Ok(Event::End);
                    }
                    b'E' => {
                        self.ended = true;
                        let mut error = self.client.error_in(&frame.body);
                        // The stream cannot be taken up again on this connection.
                        error.connection_lost = true;
                        self.client.close();
                        return Err(error);
                    }
                    tag => return Err(self.client.unexpected(tag, "replication")),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let until_status = STATUS_INTERVAL.saturating_sub(self.last_status.elapsed());
            if self.client.receive_more(left.min(until_status))? == 0 && left <= until_status {
                return Ok(Event::Idle);
            }
        }
    }

    /// Reports the position when it is time to. For consumers that are busy for long between two `next`.
    pub fn tick(&mut self) -> Result<(), ServerError> {
        if self.ended || self.last_status.elapsed() < STATUS_INTERVAL {
            return Ok(());
        }
        self.send_status()
    }

    /// Everything up to `flushed`, the end of a commit, is durable on our side: the server may forget it.
    /// Transactions that are of no interest have to be confirmed as well.
    pub fn confirm(&mut self, flushed: PgLsn) {
        self.confirmed = self.confirmed.max(flushed);
    }

    /// What the server is told is durable. While every commit that came is confirmed, positions of keepalives count
    /// too, or an idle consumer would make the server keep its WAL and hang in a fast shutdown.
    pub fn flushed(&self) -> PgLsn {
        if !self.in_transaction && self.confirmed >= self.last_commit {
            self.confirmed.max(self.quiet_until)
        } else {
            self.confirmed
        }
    }

    /// Reports the position at once.
    pub fn send_status(&mut self) -> Result<(), ServerError> {
        let flushed = self.flushed();
        let received = self.received.max(flushed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + EPOCH_2000).unwrap_or_default();
        self.last_status = Instant::now();
        self.client.send(|out| {
            out.put_u8(b'd');
            out.put_u32(4 + 34);
            out.put_u8(b'r');
            out.put_u64(received.into());
            out.put_u64(flushed.into());
            out.put_u64(flushed.into());
            out.put_u64(now.as_micros() as u64);
            out.put_u8(0);
            Ok(())
        })
    }

    /// Ends the stream in good order: the last position, `CopyDone`, goodbye. The slot is free soon after.
    pub fn finish(mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + FAREWELL_LIMIT;
        if !self.ended {
            self.send_status()?;
            self.client.send(|out| {
                frontend::copy_done(out);
                Ok(())
            })?;
        }
        if self.client.is_lost() {
            return Ok(());
        }
        // Changes that were under way come first; they come again next time.
        loop {
            let left = remaining(deadline).map_err(|e| self.client.broken(&e))?;
            match self.client.receive_within(left) {
                Ok(Some(frame)) if frame.tag == b'Z' => return Ok(()),
                Ok(Some(frame)) if frame.tag == b'E' => return Err(self.client.error_in(&frame.body)),
                Ok(_) => {}
                // A server that shuts down closes the connection here.
                Err(_) if self.ended => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn note_data(&mut self, wal_end: PgLsn, body: &[u8]) {
        self.received = self.received.max(wal_end);
        match body.first() {
            Some(b'B') => self.in_transaction = true,
            // Flags (1 byte), position of the record, its end.
            Some(b'C') => {
                self.in_transaction = false;
                if let Some(end) = body.get(10..18).and_then(|mut end| end.try_get_u64().ok()) {
                    self.last_commit = self.last_commit.max(end.into());
                }
            }
            _ => {}
        }
    }
}

enum Message {
    Data { wal_start: PgLsn, wal_end: PgLsn, body: Bytes },
    Keepalive { wal_end: PgLsn, answer: bool },
}

fn event_in(mut body: Bytes) -> Result<Message, &'static str> {
    match body.try_get_u8() {
        Ok(b'w') if body.len() >= 24 => {
            let wal_start = body.get_u64().into();
            let wal_end = body.get_u64().into();
            body.advance(8);
            Ok(Message::Data { wal_start, wal_end, body })
        }
        Ok(b'k') if body.len() >= 17 => {
            let wal_end = body.get_u64().into();
            Ok(Message::Keepalive { wal_end, answer: body[8] != 0 })
        }
        _ => Err("an unknown message of replication"),
    }
}
