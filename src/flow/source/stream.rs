//! Reads a slot, and keeps talking to the server while the applier works.

use std::time::Duration;

use postgres::types::PgLsn;

use super::backlog::{Backlog, Ended};
use super::binary::Portable;
use super::decoder::Decoder;
use super::reader::{Outlet, Reader};
use crate::error::{Error, Result, ServerError};
use crate::pg::Server;
use crate::pg::wire::{Client, Event, Purpose, Stream};

/// How long to wait for the server before looking at the stop flag and the confirmed position.
const WAIT: Duration = Duration::from_millis(50);

/// Begins to read `stream`; `on` is the publisher's side, for errors.
pub fn start(stream: Stream, slot: &str, on: &'static str) -> Result<Reader> {
    let slot = slot.to_owned();
    Reader::spawn(move |outlet| follow(stream, &slot, on, &mut Decoder::default(), outlet))
}

/// Begins to read what the slot has gathered, behind `start`, and then its stream. With `binary`, what is gathered comes in binary
/// form, which these types have.
pub fn start_with_backlog(
    publisher: &Server,
    slot: &str,
    publication: &str,
    start: PgLsn,
    binary: Option<Portable>,
) -> Result<Reader> {
    let (publisher, slot, publication) = (publisher.clone(), slot.to_owned(), publication.to_owned());
    Reader::spawn(move |outlet| {
        let is_binary = binary.is_some();
        let backlog =
            Backlog { publisher: &publisher, slot: &slot, publication: &publication, binary: is_binary };
        let mut decoder = Decoder::default();
        decoder.expect_binary(binary);
        let start = match backlog.read(&mut decoder, outlet)? {
            Ended::Applied(position) => position.max(start),
            Ended::NoCopy => start,
            Ended::Stopped => return Ok(()),
        };
        decoder.expect_binary(None);
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
