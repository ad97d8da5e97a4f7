//! Bulk COPY: the rows of one server handed to another as they come, or rows of our own written.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use postgres_protocol::message::frontend;

use super::transport::CHUNK;
use super::{Client, FAREWELL_LIMIT, GLANCE, rows_in_tag};
use crate::error::{Error, Result, ServerError};

/// Messages above this are forwarded in pieces, so that one huge row does not have to fit into memory.
const WHOLE_MESSAGE_LIMIT: usize = 1 << 20;
/// How long rows gather before a chunk that is not full is sent.
const GATHER: Duration = Duration::from_millis(5);

/// What a finished COPY moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// As the receiving server counted them.
    pub rows: u64,
    /// Of data, without the protocol's headers.
    pub bytes: u64,
}

/// Which side ended a COPY. [`Client::is_lost`] tells which connections can still be used.
#[derive(Debug)]
pub enum CopyError {
    /// The server that is read from.
    Out(ServerError),
    /// The server that is written to.
    In(ServerError),
    /// The caller's `progress`.
    Stopped(Error),
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CopyError::Out(error) => write!(f, "the server that is read from failed: {error}"),
            CopyError::In(error) => write!(f, "the server that is written to failed: {error}"),
            CopyError::Stopped(error) => write!(f, "{error}"),
        }
    }
}

impl Client {
    /// Runs `out_sql` (`COPY … TO STDOUT`) here and `in_sql` (`COPY … FROM STDIN`) on `into`, and hands the data through
    /// as it is. `progress` is called with the bytes handed over so far, at least four times a second; its error ends
    /// the copy. An error of `into` is noticed at once; this connection is then lost, as it is in the middle of
    /// sending. After an error here `into` has taken nothing and can be used again.
    pub fn copy_through(
        &mut self,
        out_sql: &str,
        into: &mut Client,
        in_sql: &str,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Copied, CopyError> {
        into.begin_copy(in_sql, b'G').map_err(CopyError::In)?;
        if let Err(error) = self.begin_copy(out_sql, b'H') {
            into.abandon_copy_in("the other server did not start to send");
            return Err(CopyError::Out(error));
        }
        let mut forward = Forward { from: self, into, bytes: 0, ready: 0, inside: 0, cut: false };
        let forwarded = forward.run(progress);
        if forwarded.is_err() && forward.cut {
            into.close();
        }
        match forwarded {
            Ok(bytes) => match into.finish_copy_in(&mut || progress(bytes)) {
                Ok(rows) => Ok(Copied { rows, bytes }),
                Err(Push::Server(error)) => Err(CopyError::In(error)),
                Err(Push::Stopped(error)) => Err(CopyError::Stopped(error)),
            },
            Err(CopyError::Out(error)) => {
                into.abandon_copy_in("the other server failed");
                Err(CopyError::Out(error))
            }
            Err(CopyError::In(mut error)) => {
                self.close();
                error.connection_lost |= into.lost;
                Err(CopyError::In(error))
            }
            Err(CopyError::Stopped(error)) => {
                self.close();
                into.abandon_copy_in("stopped");
                Err(CopyError::Stopped(error))
            }
        }
    }

    /// Asks for `COPY … TO STDOUT (FORMAT binary)` of one column, whose values a [`CopyRows`] then takes; nothing is waited for.
    pub fn ask_copy_out(&mut self, sql: &str) -> Result<(), ServerError> {
        self.send_query(sql)
    }

    fn begin_copy(&mut self, sql: &str, expected: u8) -> Result<(), ServerError> {
        self.send_query(sql)?;
        let frame = self.receive()?;
        match frame.tag {
            tag if tag == expected => Ok(()),
            b'E' => {
                let error = self.error_in(&frame.body);
                Err(self.settle(error))
            }
            tag => Err(self.unexpected(tag, "the start of COPY")),
        }
    }

    /// Writes while it looks for an error of the server, which may come at any time. `stalled` is asked whether to
    /// go on whenever the server takes nothing for a while.
    fn push(&mut self, mut bytes: &[u8], stalled: &mut dyn FnMut() -> Result<()>) -> Result<(), Push> {
        let mut failure = None;
        let mut stopped = None;
        let mut deadline = None;
        while !bytes.is_empty() && !self.lost {
            let written = self.transport.write_some(bytes, GLANCE).map_err(|e| self.broken(&e))?;
            bytes = &bytes[written..];
            if failure.is_none() {
                failure = self.look_for_error()?;
            }
            if written == 0 && stopped.is_none() {
                stopped = stalled().err();
            }
            // A message that is begun has to be finished, or the connection is of no more use.
            if failure.is_some() || stopped.is_some() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + FAREWELL_LIMIT);
                if Instant::now() > deadline {
                    self.close();
                }
            }
        }
        match (failure, stopped) {
            (Some(error), _) => Err(Push::Server(self.settle(error))),
            (None, Some(error)) => Err(Push::Stopped(error)),
            (None, None) if self.lost => Err(Push::Server(ServerError::lost("the connection is lost"))),
            (None, None) => Ok(()),
        }
    }

    /// An error that is here already.
    fn look_for_error(&mut self) -> Result<Option<ServerError>, ServerError> {
        self.receive_more(Duration::ZERO)?;
        match self.take_frame()? {
            Some(frame) if frame.tag == b'E' => Ok(Some(self.error_in(&frame.body))),
            Some(frame) => Err(self.unexpected(frame.tag, "COPY FROM")),
            None => Ok(None),
        }
    }

    /// `CopyDone`, and the number of rows that the server took. `waiting` is asked whether to go on.
    fn finish_copy_in(&mut self, waiting: &mut dyn FnMut() -> Result<()>) -> Result<u64, Push> {
        self.send(|out| {
            frontend::copy_done(out);
            Ok(())
        })?;
        let mut rows = 0;
        let mut failure = None;
        loop {
            let Some(frame) = self.receive_within(GLANCE)? else {
                if let Err(error) = waiting() {
                    self.close();
                    return Err(Push::Stopped(error));
                }
                continue;
            };
            match frame.tag {
                b'C' => rows = rows_in_tag(&frame.body),
                b'E' => failure = failure.or(Some(self.error_in(&frame.body))),
                b'Z' => return failure.map_or(Ok(rows), |error| Err(Push::Server(error))),
                tag => return Err(Push::Server(self.unexpected(tag, "the end of COPY FROM"))),
            }
            if self.lost {
                let error = failure.unwrap_or_else(|| ServerError::lost("the connection is lost"));
                return Err(Push::Server(error));
            }
        }
    }

    /// `CopyFail`, so that the server takes nothing and the connection can be used again; else it is closed.
    fn abandon_copy_in(&mut self, why: &str) {
        if self.lost {
            return;
        }
        let ended = self.send(|out| frontend::copy_fail(why, out));
        if ended.and_then(|()| self.read_to_ready(Some(Instant::now() + FAREWELL_LIMIT))).is_err() {
            self.close();
        }
    }
}

/// The values of the one column of a COPY in binary format that was asked for.
#[derive(Debug, Default)]
pub struct CopyRows {
    /// What is at hand and not taken yet.
    rest: Bytes,
    /// The head of the format has come.
    is_begun: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The value of a row, a slice of the read buffer.
    Row(Bytes),
    /// Nothing came in time.
    Nothing,
    /// All rows have come, and the connection can be used again.
    End,
}

impl CopyRows {
    /// The next value, waited for up to `wait`.
    pub fn next(&mut self, client: &mut Client, wait: Duration) -> Result<Taken, ServerError> {
        loop {
            if let Some(row) = client.check(self.take_row())? {
                return Ok(Taken::Row(row));
            }
            let Some(frame) = client.receive_within(wait)? else { return Ok(Taken::Nothing) };
            match frame.tag {
                b'd' => {
                    self.rest = frame.body;
                    if !std::mem::replace(&mut self.is_begun, true) {
                        client.check(self.take_head())?;
                    }
                }
                b'H' | b'c' | b'C' => {}
                b'Z' => return Ok(Taken::End),
                b'E' => {
                    let error = client.error_in(&frame.body);
                    return Err(client.settle(error));
                }
                tag => return Err(client.unexpected(tag, "COPY TO")),
            }
        }
    }

    /// A signature, flags and the size of an extension, which is passed over.
    fn take_head(&mut self) -> Result<(), &'static str> {
        const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
        let cut = "the head of a COPY is not whole";
        if !self.rest.starts_with(SIGNATURE) {
            return Err("a COPY does not begin as one");
        }
        self.rest.advance(SIGNATURE.len());
        self.rest.try_get_u32().map_err(|_| cut)?;
        let extension = self.rest.try_get_u32().map_err(|_| cut)? as usize;
        if extension > self.rest.len() {
            return Err(cut);
        }
        self.rest.advance(extension);
        Ok(())
    }

    /// A row that is at hand; the server never cuts one.
    fn take_row(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let odd = "a row of a COPY is not one value";
        match self.rest.try_get_i16() {
            Ok(-1) if self.rest.is_empty() => return Ok(None),
            Ok(1) => {}
            _ => return Err(odd),
        }
        match usize::try_from(self.rest.try_get_i32().map_err(|_| odd)?) {
            Ok(length) if length <= self.rest.len() => Ok(Some(self.rest.split_to(length))),
            _ => Err(odd),
        }
    }
}

/// Why data could not be handed to a server.
enum Push {
    Server(ServerError),
    Stopped(Error),
}

impl From<ServerError> for Push {
    fn from(error: ServerError) -> Self {
        Push::Server(error)
    }
}

impl From<Push> for CopyError {
    fn from(push: Push) -> Self {
        match push {
            Push::Server(error) => CopyError::In(error),
            Push::Stopped(error) => CopyError::Stopped(error),
        }
    }
}

/// A copy under way between two servers.
struct Forward<'a> {
    from: &'a mut Client,
    into: &'a mut Client,
    /// Data found in the inbox so far.
    bytes: u64,
    /// How much at the head of the inbox can be handed over.
    ready: usize,
    /// What is still to come of a message that is forwarded in pieces.
    inside: usize,
    /// The receiving server was given the beginning of a message, and not its end.
    cut: bool,
}

/// What stands in the inbox behind the data that is ready.
#[derive(PartialEq)]
enum Next {
    /// Nothing that is complete.
    Unknown,
    /// A message that is no data.
    Other,
}

impl Forward<'_> {
    /// Everything up to the end of the stream; bytes of data.
    fn run(&mut self, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<u64, CopyError> {
        loop {
            let next = self.scan().map_err(CopyError::Out)?;
            if self.ready > 0 {
                if self.ready >= CHUNK || next == Next::Other || !self.read(GATHER)? {
                    self.hand_over(progress)?;
                }
            } else if next == Next::Other {
                if self.is_finished().map_err(CopyError::Out)? {
                    return Ok(self.bytes);
                }
            } else if !self.read(GLANCE)? {
                if let Some(error) = self.into.look_for_error().map_err(CopyError::In)? {
                    return Err(CopyError::In(self.into.settle(error)));
                }
                progress(self.bytes).map_err(CopyError::Stopped)?;
            }
        }
    }

    /// Walks over the complete messages of data.
    fn scan(&mut self) -> Result<Next, ServerError> {
        loop {
            let here = self.from.inbox.len() - self.ready;
            if self.inside > 0 {
                let part = self.inside.min(here);
                self.ready += part;
                self.inside -= part;
                self.bytes += part as u64;
                if self.inside > 0 {
                    return Ok(Next::Unknown);
                }
                continue;
            }
            let Some((tag, length)) = self.from.frame_header(self.ready)? else { return Ok(Next::Unknown) };
            if tag != b'd' {
                return Ok(Next::Other);
            }
            if here >= length {
                self.ready += length;
                self.bytes += length as u64 - 5;
            } else if length > WHOLE_MESSAGE_LIMIT {
                self.ready += 5;
                self.inside = length - 5;
            } else {
                return Ok(Next::Unknown);
            }
        }
    }

    fn hand_over(&mut self, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<(), CopyError> {
        let chunk = self.from.inbox.split_to(self.ready);
        self.ready = 0;
        self.cut = self.inside > 0;
        self.into.push(&chunk, &mut || progress(self.bytes))?;
        progress(self.bytes).map_err(CopyError::Stopped)
    }

    /// Deals with a message that is no data; whether it was the end.
    fn is_finished(&mut self) -> Result<bool, ServerError> {
        if self.from.pass_notice()? {
            return Ok(false);
        }
        let Some((tag, length)) = self.from.frame_header(0)? else { return Ok(false) };
        if self.from.inbox.len() < length {
            self.from.receive_more(GLANCE)?;
            return Ok(false);
        }
        let failure = match (tag, self.from.take_frame()?) {
            (b'c', _) => self.from.read_to_ready(None)?,
            (b'E', Some(frame)) => {
                let error = self.from.error_in(&frame.body);
                Some(self.from.settle(error))
            }
            _ => return Err(self.from.unexpected(tag, "COPY TO")),
        };
        failure.map_or(Ok(true), Err)
    }

    /// Whether anything came from the sending server within `wait`.
    fn read(&mut self, wait: Duration) -> Result<bool, CopyError> {
        self.from.receive_more(wait).map(|count| count > 0).map_err(CopyError::Out)
    }
}
