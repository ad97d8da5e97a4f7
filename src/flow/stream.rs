//! A thread that reads a slot, decodes it, and keeps talking to the server while the applier works.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use postgres::types::PgLsn;

use super::batch::ArrivedMarker;
use super::change::{Change, Relation, RowChange, Value};
use super::pgoutput::{self, Message, Tuple};
use crate::error::{Error, Result, ServerError};
use crate::pg::wire::{Event, Stream};

/// Bytes that go to the applier at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for the applier.
const CHUNKS_WAITING: usize = 16;
/// How long to wait for the server before looking at the stop flag and the confirmed position.
const WAIT: Duration = Duration::from_millis(50);
/// Pause while the applier is behind.
const STALL: Duration = Duration::from_micros(500);
/// A logical message of this prefix makes its transaction temporary: nothing of it is applied.
pub const SCRATCH_PREFIX: &str = "pgdetour.scratch";

/// One thing that the stream says.
#[derive(Debug)]
pub enum Item {
    /// A transaction begins.
    Begin {
        /// Lower 32 bits of its xid.
        xid: u32,
        /// Position of its commit record.
        commit_lsn: PgLsn,
    },
    /// It came from elsewhere itself.
    Origin,
    /// It is temporary.
    Scratch,
    /// A change.
    Change(Change),
    /// A marker, of any flow.
    Marker {
        /// `mirror` or `replay`.
        flow: String,
        /// The marker.
        marker: ArrivedMarker,
    },
    /// It ends.
    Commit {
        /// Position behind it.
        end_lsn: PgLsn,
    },
}

/// What was read at once.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In order.
    pub items: Vec<Item>,
    /// Size of the messages, in bytes.
    pub bytes: usize,
    /// The server had nothing more to send when this was closed.
    pub drained: bool,
    /// Commits before it have come; 0 when the server has not said so lately.
    pub position: u64,
}

#[derive(Default)]
struct Shared {
    confirmed: AtomicU64,
    stop: AtomicBool,
}

/// The reading end of a slot. Dropping it ends the thread and the connection.
pub struct Reader {
    chunks: Option<Receiver<Result<Chunk>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins to read `stream`; `on` is the publisher's side, for errors.
    pub fn start(stream: Stream, slot: &str, on: &'static str) -> Result<Reader> {
        let (sender, chunks) = sync_channel(CHUNKS_WAITING);
        let shared = Arc::new(Shared::default());
        let mut thread = ReaderThread {
            stream,
            sender,
            shared: Arc::clone(&shared),
            action: format!("read changes from replication slot \"{slot}\""),
            on,
            relations: HashMap::new(),
            chunk: Chunk::default(),
        };
        let work = move || {
            if let Err(error) = thread.read() {
                // Nobody listens any more when the applier has ended.
                let _ = thread.sender.send(Err(error));
                return;
            }
            // The position was confirmed by the applier's own commit: a farewell that fails loses nothing.
            let _ = thread.stream.finish();
        };
        let thread = std::thread::Builder::new()
            .name("read changes".to_owned())
            .spawn(work)
            .map_err(Error::io("start a thread"))?;
        Ok(Reader { chunks: Some(chunks), shared, thread: Some(thread) })
    }

    /// The next chunk; none when nothing came within `wait`.
    pub fn next(&self, wait: Duration) -> Result<Option<Chunk>> {
        let ended = || Error::Internal { message: "the thread that reads changes has ended".to_owned() };
        match self.chunks.as_ref().ok_or_else(ended)?.recv_timeout(wait) {
            Ok(chunk) => chunk.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Everything up to `position` is applied and committed.
    pub fn confirm(&self, position: PgLsn) {
        self.shared.confirmed.fetch_max(position.into(), Ordering::Relaxed);
    }

    /// Ends the stream in good order and waits for that.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the thread, which is all that is wanted.
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

struct ReaderThread {
    stream: Stream,
    sender: SyncSender<Result<Chunk>>,
    shared: Arc<Shared>,
    action: String,
    on: &'static str,
    relations: HashMap<u32, Arc<Relation>>,
    chunk: Chunk,
}

impl ReaderThread {
    /// Reads until it is to stop.
    fn read(&mut self) -> Result<()> {
        let mut wait = WAIT;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.stream.confirm(self.shared.confirmed.load(Ordering::Relaxed).into());
            match self.stream.next(wait).map_err(|cause| self.failed(cause))? {
                Event::Data { body, .. } => {
                    self.chunk.bytes += body.len();
                    self.take(&body)?;
                    if self.chunk.bytes >= CHUNK_BYTES {
                        self.send(false);
                    }
                    wait = Duration::ZERO;
                }
                Event::Keepalive { wal_end } => {
                    self.chunk.position = wal_end.into();
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

    /// Hands the chunk over, waiting for the applier; the server is kept informed meanwhile.
    fn send(&mut self, drained: bool) {
        let mut chunk = Ok(Chunk { drained, ..std::mem::take(&mut self.chunk) });
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.sender.try_send(chunk) {
                // Without a listener the stop flag follows.
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => chunk = back,
            }
            self.stream.confirm(self.shared.confirmed.load(Ordering::Relaxed).into());
            // A connection that broke meanwhile shows at the next read.
            let _ = self.stream.tick();
            std::thread::sleep(STALL);
        }
    }

    fn take(&mut self, body: &Bytes) -> Result<()> {
        let message = pgoutput::decode(body).map_err(|bad| malformed(&bad.to_string()))?;
        let item = match message {
            Message::Begin { final_lsn, xid } => Item::Begin { xid, commit_lsn: final_lsn.into() },
            Message::Commit { end_lsn } => Item::Commit { end_lsn: end_lsn.into() },
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
        if !is_ours(&item) {
            self.chunk.items.push(item);
        }
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

/// Whether it is a change of our own tables, which no flow carries but for markers.
fn is_ours(item: &Item) -> bool {
    matches!(item, Item::Change(Change::Row { relation, .. }) if relation.schema == "pgdetour")
}

/// The marker in a row of `pgdetour.marker`.
fn marker(relation: &Relation, row: &[Value]) -> Option<Item> {
    if relation.name != "marker" {
        return None;
    }
    let text = |name: &str| {
        let at = relation.columns.iter().position(|column| column.name == name)?;
        match row.get(at)? {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Value::Null | Value::Unchanged => None,
        }
    };
    let marker = ArrivedMarker { id: text("id")?, written_at: text("written_at")? };
    Some(Item::Marker { flow: text("flow")?, marker })
}
