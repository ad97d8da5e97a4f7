//! Our own small client for what the `postgres` crate lacks: bulk COPY pass-through, replication, several questions at once.

mod answers;
mod auth;
mod copy;
mod replication;
mod script;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;

pub use answers::Answer;
pub use copy::{Copied, CopyError, CopyRows, Taken};
pub use replication::{Event, Stream};

use crate::error::ServerError;
use crate::pg::Conninfo;
use crate::pg::Conventions;
use crate::pg::conninfo::{Attempt, Place};
use crate::pg::server::pin_session;
use transport::{Socket, Transport, remaining};

/// Longest message that a server may send before it has let us in.
const STARTUP_MESSAGE_LIMIT: usize = 64 * 1024;
/// Longest message at all: a value of 1 GiB and what surrounds it.
const MESSAGE_LIMIT: usize = (1 << 30) + (1 << 20);
/// How long a server may take to read a few bytes from us.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// How often a long wait looks up, so that its caller can be asked whether to go on.
const GLANCE: Duration = Duration::from_millis(250);
/// How long a farewell may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Statements and COPY.
    Sql,
    /// Replication commands; statements work too.
    Replication,
    /// Commands of a pooler's console, which knows no settings.
    Console,
}

/// One connection that speaks the simple query protocol. Dropping it says goodbye to the server.
pub struct Client {
    transport: Transport,
    inbox: BytesMut,
    outbox: BytesMut,
    parameters: HashMap<String, String>,
    message_limit: usize,
    lost: bool,
}

/// One message of the server.
struct Frame {
    tag: u8,
    body: Bytes,
}

impl Client {
    /// Connects to the first host that lets us in, and pins the settings that `pin_session.sql` pins.
    pub fn connect(
        conninfo: &Conninfo,
        application_name: &str,
        purpose: Purpose,
    ) -> Result<Client, ServerError> {
        let mut client = conninfo.reach(
            |attempt| Client::log_in(conninfo, attempt, application_name, purpose),
            |client, question| {
                let rows = client.simple_query(question)?;
                Ok(rows.into_iter().flatten().next().flatten().unwrap_or_default())
            },
        )?;
        if purpose != Purpose::Console {
            client.pin(purpose)?;
        }
        Ok(client)
    }

    /// Whether to let what the server sends gather for a moment before it is read.
    pub fn set_coalescing(&mut self, on: bool) {
        self.transport.set_coalescing(on);
    }

    /// A connection to exactly this address, as the server opens it.
    pub(in crate::pg) fn log_in(
        conninfo: &Conninfo,
        attempt: &Attempt,
        application_name: &str,
        purpose: Purpose,
    ) -> Result<Client, ServerError> {
        let socket = match &attempt.place {
            Place::Tcp(address) => {
                let wait = remaining(attempt.deadline).map_err(|e| unreached(&e))?;
                let stream = TcpStream::connect_timeout(address, wait).map_err(|e| unreached(&e))?;
                stream.set_nodelay(true).map_err(|e| unreached(&e))?;
                conninfo.set_socket_options(&stream).map_err(|e| unreached(&e))?;
                Socket::Tcp(stream)
            }
            Place::Unix(directory, port) => {
                let file = Place::socket_file(directory, *port);
                Socket::Unix(UnixStream::connect(file).map_err(|e| unreached(&e))?)
            }
        };
        let mut client = Client {
            transport: Transport::new(socket).map_err(|e| unreached(&e))?,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            parameters: HashMap::new(),
            message_limit: STARTUP_MESSAGE_LIMIT,
            lost: false,
        };
        client.negotiate_tls(attempt)?;
        client.start_up(conninfo, attempt, application_name, purpose)?;
        client.message_limit = MESSAGE_LIMIT;
        Ok(client)
    }

    fn pin(&mut self, purpose: Purpose) -> Result<(), ServerError> {
        self.simple_query(&pin_session(&Conventions::default()))?;
        if purpose == Purpose::Replication {
            // A slow consumer is no dead one; a dead one is found by keep-alive packets, not by silence. The longest timeout and
            // not none at all: without one the walsender looks for an answer of ours after each change that it sends.
            self.simple_query(
                "set wal_sender_timeout = 2147483647; set tcp_keepalives_idle = 30; \
                 set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3",
            )?;
        }
        Ok(())
    }

    /// Runs statements without parameters; the rows of all of them, as text.
    /// Waits as long as the server works: bound it by `statement_timeout` or `lock_timeout`.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ServerError> {
        self.send_query(sql)?;
        self.receive_answer()?.map(|answer| answer.rows)
    }

    /// Major and minor in one number, such as 150004.
    pub fn server_version(&self) -> i32 {
        let text = self.parameter("server_version").unwrap_or_default();
        let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut numbers = digits.split('.').map(|part| part.parse().unwrap_or(0));
        numbers.next().unwrap_or(0) * 10_000 + numbers.next().unwrap_or(0)
    }

    /// A setting that the server reports by itself, such as `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether the connection is gone; every call on it will fail.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether the connection is encrypted.
    #[cfg(test)]
    pub fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }

    /// Ends the connection without a word; the server rolls back.
    fn close(&mut self) {
        self.lost = true;
        self.transport.close();
    }

    fn send_query(&mut self, sql: &str) -> Result<(), ServerError> {
        self.send(|out| frontend::query(sql, out))
    }

    /// Sends one message.
    fn send(&mut self, build: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), ServerError> {
        let mut out = std::mem::take(&mut self.outbox);
        out.clear();
        let result = match build(&mut out) {
            Ok(()) => self.write_all(&out),
            Err(error) => Err(ServerError { message: error.to_string(), ..Default::default() }),
        };
        self.outbox = out;
        result
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), ServerError> {
        let deadline = Instant::now() + SEND_LIMIT;
        while !bytes.is_empty() {
            let written = self.transport.write_some(bytes, GLANCE).map_err(|e| self.broken(&e))?;
            bytes = &bytes[written..];
            if written == 0 {
                // A server that is busy sending to us reads nothing until we have read.
                self.receive_more(Duration::ZERO)?;
                remaining(deadline).map_err(|e| self.broken(&e))?;
            }
        }
        Ok(())
    }

    /// The next message, however long it takes.
    fn receive(&mut self) -> Result<Frame, ServerError> {
        loop {
            if let Some(frame) = self.receive_within(GLANCE)? {
                return Ok(frame);
            }
        }
    }

    /// The next message, or none when `wait` is over.
    fn receive_within(&mut self, wait: Duration) -> Result<Option<Frame>, ServerError> {
        // Most messages of a bulk are here already, and need no clock.
        let mut deadline = None;
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let now = Instant::now();
            let left = deadline.get_or_insert(now + wait).saturating_duration_since(now);
            if self.receive_more(left)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads what comes within `wait`; how many bytes it was.
    fn receive_more(&mut self, wait: Duration) -> Result<usize, ServerError> {
        self.transport.read_into(&mut self.inbox, wait).map_err(|e| self.broken(&e))
    }

    /// The next message that is here in full. Messages that concern nobody here are dealt with on the way.
    fn take_frame(&mut self) -> Result<Option<Frame>, ServerError> {
        while self.pass_notice()? {}
        let Some((tag, length)) = self.frame_header(0)? else { return Ok(None) };
        if let Some(missing @ 1..) = length.checked_sub(self.inbox.len()) {
            // Room for all of a large one: a buffer that grows by the way is copied, and twice as large in the end.
            self.inbox.reserve(missing);
            return Ok(None);
        }
        let mut body = self.inbox.split_to(length);
        body.advance(5);
        Ok(Some(Frame { tag, body: body.freeze() }))
    }

    /// Deals with a notice, a notification or a reported setting at the head of the inbox, if one is there.
    fn pass_notice(&mut self) -> Result<bool, ServerError> {
        let Some((tag @ (b'S' | b'N' | b'A'), length)) = self.frame_header(0)? else { return Ok(false) };
        if self.inbox.len() < length {
            return Ok(false);
        }
        let body = self.inbox.split_to(length);
        if tag == b'S' {
            let mut parts = body[5..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
            if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                self.parameters.insert(name.into_owned(), value.into_owned());
            }
        }
        Ok(true)
    }

    /// Tag and whole length of the message that begins at `at` in the inbox.
    fn frame_header(&mut self, at: usize) -> Result<Option<(u8, usize)>, ServerError> {
        let Some([tag, a, b, c, d]) = self.inbox[at..].first_chunk::<5>().copied() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 1;
        if length < 5 || length > self.message_limit {
            let what = format!("the server sent a message of {length} bytes, which is no PostgreSQL answer");
            self.close();
            return Err(ServerError::lost(what));
        }
        Ok(Some((tag, length)))
    }

    /// Reads up to `ReadyForQuery`; the first error on the way, if there is one.
    fn read_to_ready(&mut self, deadline: Option<Instant>) -> Result<Option<ServerError>, ServerError> {
        let mut failure = None;
        loop {
            let Some(frame) = self.receive_within(GLANCE)? else {
                if let Some(deadline) = deadline {
                    remaining(deadline).map_err(|e| self.broken(&e))?;
                }
                continue;
            };
            match frame.tag {
                b'Z' => return Ok(failure),
                b'E' => {
                    let error = self.error_in(&frame.body);
                    if self.lost {
                        return Err(error);
                    }
                    failure = failure.or(Some(error));
                }
                _ => {}
            }
        }
    }

    /// After an error, reads until the server is ready again; the same error, which tells when it never is.
    fn settle(&mut self, mut error: ServerError) -> ServerError {
        if !self.lost && self.read_to_ready(Some(Instant::now() + FAREWELL_LIMIT)).is_err() {
            self.close();
        }
        error.connection_lost |= self.lost;
        error
    }

    /// The failure that an `ErrorResponse` tells of. After a fatal one the connection is gone.
    fn error_in(&mut self, body: &[u8]) -> ServerError {
        let mut error = ServerError::default();
        let mut fatal = false;
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => fatal = text == "FATAL" || text == "PANIC",
                b'C' => error.sqlstate = Some(text),
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                _ => {}
            }
        }
        if fatal {
            error.connection_lost = true;
            self.close();
        }
        error
    }

    /// The failure of the connection itself; says what the server said last, when it said something.
    fn broken(&mut self, error: &std::io::Error) -> ServerError {
        let parting = match self.take_frame() {
            Ok(Some(frame)) if frame.tag == b'E' => Some(self.error_in(&frame.body)),
            _ => self.parting_words(),
        };
        self.close();
        if let Some(mut said) = parting {
            said.connection_lost = true;
            return said;
        }
        ServerError::lost(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            std::io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
            _ => error.to_string(),
        })
    }

    /// A last error that the server sent before it closed the connection.
    fn parting_words(&mut self) -> Option<ServerError> {
        let _ = self.transport.read_into(&mut self.inbox, Duration::ZERO);
        while let Ok(Some(frame)) = self.take_frame() {
            if frame.tag == b'E' {
                return Some(self.error_in(&frame.body));
            }
        }
        None
    }

    fn check<T>(&mut self, result: Result<T, &'static str>) -> Result<T, ServerError> {
        result.map_err(|what| {
            self.close();
            ServerError::lost(format!("the server broke the protocol: {what}"))
        })
    }

    fn unexpected(&mut self, tag: u8, during: &str) -> ServerError {
        self.close();
        ServerError::lost(format!("the server sent an unexpected message '{}' during {during}", tag as char))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.lost {
            let mut out = BytesMut::new();
            frontend::terminate(&mut out);
            // The server notices the end of the connection either way.
            let _ = self.transport.write_some(&out, Duration::ZERO);
        }
    }
}

/// The values of a `DataRow`.
fn text_row(mut body: &[u8]) -> Result<Vec<Option<String>>, &'static str> {
    const SHORT: &str = "a row is shorter than it says";
    let columns = body.try_get_u16().map_err(|_| SHORT)?;
    let mut row = Vec::with_capacity(columns.into());
    for _ in 0..columns {
        let length = body.try_get_i32().map_err(|_| SHORT)?;
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            continue;
        };
        let (value, rest) = body.split_at_checked(length).ok_or(SHORT)?;
        row.push(Some(String::from_utf8(value.to_vec()).map_err(|_| "a value is not UTF-8")?));
        body = rest;
    }
    Ok(row)
}

/// The number at the end of a command tag such as `COPY 5`.
fn rows_in_tag(body: &[u8]) -> u64 {
    let tag = String::from_utf8_lossy(body);
    tag.trim_end_matches('\0').rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// A connection that was not made.
fn unreached(error: &std::io::Error) -> ServerError {
    ServerError::lost(match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => "connection timed out".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    })
}
