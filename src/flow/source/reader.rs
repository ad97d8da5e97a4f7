//! The reading end of a source of changes: a thread fetches and decodes while the applier works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::types::PgLsn;

use super::binary;
use super::change::{Change, Relation, Row, Value};
use crate::error::{Error, Result};
use crate::flow::Xid;
use crate::flow::apply::batch::ArrivedMarker;

/// Bytes that go to the applier at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait for the applier, and bytes in them: a chunk is as large as a row of it may be.
const CHUNKS_WAITING: usize = 8;
const BYTES_WAITING: usize = CHUNKS_WAITING * CHUNK_BYTES;
/// Pause while the applier is behind.
const STALL: Duration = Duration::from_micros(500);

/// One thing that the stream says.
#[derive(Debug)]
pub enum Item {
    /// A transaction begins.
    Begin {
        /// Its xid.
        xid: Xid,
        /// Position of its commit record.
        commit_lsn: PgLsn,
    },
    /// It came from elsewhere itself.
    Origin {
        /// Name of the replication origin.
        name: String,
    },
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
    /// When the last transaction that ends in it was committed, by the publisher's clock, in microseconds since 2000-01-01 UTC.
    pub committed_at: Option<i64>,
}

#[derive(Default)]
struct Shared {
    confirmed: AtomicU64,
    stop: AtomicBool,
    /// Bytes that wait for the applier.
    waiting: AtomicUsize,
}

/// The reading end. Dropping it ends the thread and its connection.
pub struct Reader {
    chunks: Option<Receiver<Result<Chunk>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Runs `read` in a thread of its own until it fails or is told to stop.
    pub fn spawn(read: impl FnOnce(&mut Outlet) -> Result<()> + Send + 'static) -> Result<Reader> {
        let (sender, chunks) = sync_channel(CHUNKS_WAITING);
        let shared = Arc::new(Shared::default());
        let mut outlet = Outlet { sender, shared: Arc::clone(&shared), chunk: Chunk::default() };
        let work = move || {
            if let Err(error) = read(&mut outlet) {
                // Nobody listens any more when the applier has ended.
                let _ = outlet.sender.send(Err(error));
            }
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
            Ok(chunk) => {
                let chunk = chunk?;
                self.shared.waiting.fetch_sub(chunk.bytes, Ordering::Relaxed);
                Ok(Some(chunk))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Everything up to `position` is applied and committed.
    pub fn confirm(&self, position: PgLsn) {
        self.shared.confirmed.fetch_max(position.into(), Ordering::Relaxed);
    }

    /// Ends the reading in good order and waits for that.
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

/// Where the reading thread puts what it has read.
pub struct Outlet {
    sender: SyncSender<Result<Chunk>>,
    shared: Arc<Shared>,
    chunk: Chunk,
}

impl Outlet {
    /// Whether the thread is to end.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Everything up to it is applied and committed.
    pub fn confirmed(&self) -> PgLsn {
        self.shared.confirmed.load(Ordering::Relaxed).into()
    }

    /// Adds one thing; changes of our own tables but for markers are left out.
    pub fn push(&mut self, item: Item) {
        if !is_ours(&item) {
            self.chunk.items.push(item);
        }
    }

    /// Counts what was read.
    pub fn count(&mut self, bytes: usize) {
        self.chunk.bytes += bytes;
    }

    /// Commits before this position have come.
    pub fn note_position(&mut self, position: u64) {
        self.chunk.position = position;
    }

    /// A transaction that ends here was committed then, in microseconds since 2000-01-01 UTC.
    pub fn note_time(&mut self, committed_at: i64) {
        self.chunk.committed_at = Some(committed_at);
    }

    /// Whether the chunk is large enough to be sent.
    pub fn is_full(&self) -> bool {
        self.chunk.bytes >= CHUNK_BYTES
    }

    /// Hands the chunk over, waiting for the applier; `meanwhile` is called as long as that takes.
    pub fn send(&mut self, drained: bool, mut meanwhile: impl FnMut(PgLsn)) {
        let bytes = self.chunk.bytes;
        let mut chunk = Ok(Chunk { drained, ..std::mem::take(&mut self.chunk) });
        while !self.is_stopped() {
            let waiting = self.shared.waiting.load(Ordering::Relaxed);
            if waiting == 0 || waiting + bytes <= BYTES_WAITING {
                self.shared.waiting.fetch_add(bytes, Ordering::Relaxed);
                match self.sender.try_send(chunk) {
                    // Without a listener the stop flag follows.
                    Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                    Err(TrySendError::Full(back)) => chunk = back,
                }
                self.shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
            }
            meanwhile(self.confirmed());
            std::thread::sleep(STALL);
        }
    }
}

/// Whether it is a change of our own tables, which no flow carries but for markers.
fn is_ours(item: &Item) -> bool {
    matches!(item, Item::Change(Change::Row { relation, .. }) if relation.schema == "pgdetour")
}

/// The marker in a row of `pgdetour.marker`.
pub fn marker(relation: &Relation, row: &Row) -> Option<Item> {
    if relation.name != "marker" {
        return None;
    }
    let text = |name: &str| {
        let at = relation.columns.iter().position(|column| column.name == name)?;
        match row.value(at) {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Value::Binary(sent) => binary::text_of(relation.columns[at].type_oid, sent),
            Value::Null | Value::Unchanged => None,
        }
    };
    let marker = ArrivedMarker { id: text("id")?, written_at: text("written_at")? };
    Some(Item::Marker { flow: text("flow")?, marker })
}
